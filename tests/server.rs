//! A teacher on a server: our own server tells the rows of the teacher itself, and one that lies leaves nothing behind.

use crate::fixture::Fixture;
use logitcask_cache::{CacheReader, CachedSample};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::thread;

const CACHE: [&str; 4] = ["cache", "recipe.toml", "--device", "cpu"];
const TRAIN: [&str; 6] = ["train", "recipe.toml", "--device", "cpu", "--out", "run"];

/// `logitcask serve`, until it is dropped.
struct Served {
    child: Child,
    url: String,
}

impl Served {
    fn new(fixture: &Fixture) -> Self {
        let mut command = fixture.command(&["serve", "teacher", "--listen", "127.0.0.1:0", "--device", "cpu"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut url).unwrap();
        Self { child, url: url.trim().to_owned() }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A recipe whose teacher is on the server at `url`, with some more keys.
fn ask(fixture: &Fixture, url: &str, more: &str) {
    let tokenizer = fixture.path("teacher").display().to_string();
    let model = format!("model = \"{tokenizer}\"\n");
    let served = format!("model = \"teacher\"\nserver = \"{url}\"\ntokenizer = \"{tokenizer}\"\n{more}\n");
    fixture.edit_recipe(&model, &served);
}

/// The samples of the train split, in their order.
fn samples(fixture: &Fixture) -> Vec<CachedSample> {
    let reader = CacheReader::open(&fixture.path("cache")).unwrap();
    reader.in_order("train").unwrap().map(|sample| sample.unwrap()).collect()
}

/// The samples that the teacher itself gives.
fn of_the_teacher(fixture: &Fixture) -> Vec<CachedSample> {
    fixture.ok(&CACHE);
    let samples = samples(fixture);
    fs::rename(fixture.path("cache"), fixture.path("local")).unwrap();
    samples
}

/// Compares rows with those of the teacher itself. A log-probability between two f16 numbers may become either.
fn assert_same(got: &[CachedSample], wanted: &[CachedSample]) {
    assert_eq!(got.len(), wanted.len());
    let is_near = |a: f32, b: f32| (a - b).abs() <= a.abs() / 1024.0 + 1e-7;
    for (got, wanted) in got.iter().zip(wanted) {
        assert_eq!(got.sample, wanted.sample);
        for (got, wanted) in got.rows.iter().zip(wanted.rows.iter()) {
            let mut ids = [got.class_ids.to_vec(), wanted.class_ids.to_vec()];
            ids.iter_mut().for_each(|ids| ids.sort_unstable());
            assert_eq!(ids[0], ids[1]);
            assert!(got.log_probs.iter().zip(wanted.log_probs).all(|(a, b)| is_near(*a, *b)));
            assert!(got.log_z.is_nan());
            if got.gold.is_known() {
                assert!(is_near(got.gold.log_prob, wanted.gold.log_prob));
                assert_eq!(got.gold.rank, wanted.gold.rank);
            } else {
                assert!(wanted.gold.rank as usize >= wanted.class_ids.len());
            }
        }
    }
}

#[test]
fn a_server_tells_the_rows_of_its_teacher() {
    let fixture = Fixture::new(120);
    let wanted = of_the_teacher(&fixture);
    let served = Served::new(&fixture);
    for (more, source) in [
        ("", "no log_z, gold always, tail mass"),
        ("interface = \"echo\"\nconnections = 2", "no log_z, gold kept, tail mass"),
    ] {
        fixture.write_recipe("");
        ask(&fixture, &served.url, more);
        fixture.ok(&CACHE);
        assert_same(&samples(&fixture), &wanted);
        fixture.ok(&["verify", "cache"]);
        assert!(fixture.ok(&["inspect", "cache"]).contains(source));
        fs::rename(fixture.path("cache"), fixture.path(if more.is_empty() { "first" } else { "second" })).unwrap();
    }
}

#[test]
fn a_server_with_sglangs_interface_tells_them_too() {
    let fixture = Fixture::new(120);
    let wanted = of_the_teacher(&fixture);
    let served = Served::new(&fixture);
    ask(&fixture, &as_sglang(&served.url), "interface = \"sglang\"");
    fixture.ok(&CACHE);
    assert_same(&samples(&fixture), &wanted);
    assert!(fixture.ok(&["inspect", "cache"]).contains("no log_z, gold kept, tail mass"));
    fixture.edit_recipe("max_length = 48", "max_length = 58");
    let error = fixture.fails(&[&CACHE[..], &["--replace"]].concat());
    assert!(error.contains("the server takes windows of up to 57 tokens"), "{error}");
}

/// Has a server of ours behind an interface like SGLang's.
fn as_sglang(upstream: &str) -> String {
    let upstream = upstream.strip_prefix("http://").unwrap().to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let (head, body) = request(&client);
            let answer = match head.starts_with("POST /generate ") {
                true => answer(200, &generated(&upstream, &serde_json::from_slice(&body).unwrap()).to_string()),
                false => exchange(&upstream, &head, &body),
            };
            client.write_all(&answer).unwrap();
        }
    });
    url
}

/// What SGLang would answer to a request.
fn generated(upstream: &str, asked: &Value) -> Value {
    assert!(asked["return_logprob"] == true && asked["logprob_start_len"] == 0);
    let k = asked["top_logprobs_num"].as_u64().unwrap() as usize;
    let request = json!({"prompt": asked["input_ids"], "max_tokens": 0, "prompt_logprobs": k}).to_string();
    let head = format!("POST /v1/completions HTTP/1.1\r\nContent-Length: {}\r\n\r\n", request.len());
    let text = String::from_utf8(exchange(upstream, &head, request.as_bytes())).unwrap();
    let told: Value = serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
    let choices = told["choices"].as_array().unwrap().iter().zip(asked["input_ids"].as_array().unwrap());
    choices.map(|(choice, ids)| of_choice(choice, ids, k)).collect()
}

fn of_choice(choice: &Value, ids: &Value, k: usize) -> Value {
    let positions = choice["prompt_logprobs"].as_array().unwrap().iter().zip(ids.as_array().unwrap());
    let of = |(classes, id): (&Value, &Value)| {
        let Some(classes) = classes.as_object() else { return (json!([null, id, null]), Value::Null) };
        let own = json!([classes[&id.to_string()]["logprob"], id, null]);
        let mut all: Vec<(f64, u32)> =
            classes.iter().map(|(class, told)| (told["logprob"].as_f64().unwrap(), class.parse().unwrap())).collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        (own, all.iter().take(k).map(|(log_prob, class)| json!([log_prob, class, null])).collect())
    };
    let (own, top): (Vec<Value>, Vec<Value>) = positions.map(of).unzip();
    json!({"text": "", "meta_info": {"id": "0", "input_token_logprobs": own, "input_top_logprobs": top}})
}

#[test]
fn a_finished_cache_needs_no_server() {
    let fixture = Fixture::new(60);
    let served = Served::new(&fixture);
    ask(&fixture, &served.url, "");
    fixture.ok(&CACHE);
    drop(served);
    fixture.ok(&TRAIN);
    // Its inputs are remembered once they have not changed for a while.
    thread::sleep(std::time::Duration::from_millis(2100));
    let served = Served::new(&fixture);
    let old = fs::read_to_string(fixture.recipe()).unwrap();
    let (before, _) = old.split_once("server = \"").unwrap();
    let (_, after) = old.split_once("\"\ntokenizer").unwrap();
    fs::write(fixture.recipe(), format!("{before}server = \"{}\"\ntokenizer{after}", served.url)).unwrap();
    assert!(fixture.ok(&CACHE).contains("is up to date"), "another address is no other teacher");
    drop(served);
    assert!(fixture.ok(&CACHE).contains("is up to date"));
    fixture.edit_recipe("model = \"teacher\"", "model = \"other\"");
    let error = fixture.fails(&TRAIN);
    assert!(error.contains("the cache is of another recipe") && error.contains("teacher"), "{error}");
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_server() {
    let fixture = Fixture::new(5);
    let mut served = Served::new(&fixture);
    // A client that asks for nothing does not keep it.
    let _idle = TcpStream::connect(&served.url["http://".len()..]).unwrap();
    let process = served.child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &process]).status().unwrap().success());
    assert!(served.child.wait().unwrap().success());
    let mut said = String::new();
    served.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("stopping once the request that is computed is answered; press Ctrl-C again"), "{said}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = fixture.fails(&["serve", "teacher", "--device", "cpu", "--listen", &address]);
    assert!(error.contains(&format!("{address}: cannot listen there")) && error.contains("--listen"), "{error}");
}

/// Passes requests on to a server, and changes its answers by their number.
fn between(upstream: &str, change: impl Fn(usize, Vec<u8>) -> Vec<u8> + Send + 'static) -> String {
    let upstream = upstream.strip_prefix("http://").unwrap().to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for (number, client) in listener.incoming().enumerate() {
            let mut client = client.unwrap();
            let (head, body) = request(&client);
            let honest = exchange(&upstream, &head, &body);
            // The program may have ended already.
            let _ = client.write_all(&change(number, honest));
        }
    });
    url
}

/// What a server answers to a request.
fn exchange(server: &str, head: &str, body: &[u8]) -> Vec<u8> {
    let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    let mut server = TcpStream::connect(server).unwrap();
    server.write_all(head.as_bytes()).and_then(|()| server.write_all(body)).unwrap();
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).unwrap();
    answer
}

fn request(client: &TcpStream) -> (String, Vec<u8>) {
    let (mut reader, mut head) = (BufReader::new(client), String::new());
    while !head.ends_with("\r\n\r\n") {
        reader.read_line(&mut head).unwrap();
    }
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).unwrap();
    (head, body)
}

fn answer(status: u16, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status} X\r\nConnection: close\r\nRetry-After: 0\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[test]
fn a_server_that_lies_leaves_nothing_and_an_honest_one_goes_on() {
    let fixture = Fixture::new(120);
    let wanted = of_the_teacher(&fixture);
    let served = Served::new(&fixture);
    // The model, the request that is tried out and those of the first units are honest, and one fails for a moment.
    let lies = between(&served.url, |number, honest| match number {
        3 => answer(503, "a moment"),
        4 => Vec::new(),
        0..9 => honest,
        _ => {
            let text = String::from_utf8(honest).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            // The first position that has entries tells nothing of them.
            let from = body.find("\"prompt_logprobs\":[null,").unwrap() + "\"prompt_logprobs\":[null,".len();
            let length = body[from..].find("}},{").unwrap() + 2;
            let lie = format!("{}null{}", &body[..from], &body[from + length..]);
            assert!(head.starts_with("HTTP/1.1 200"));
            answer(200, &lie)
        }
    });
    ask(&fixture, &lies, "connections = 1");
    let error = fixture.fails(&CACHE);
    for words in [
        "split `train`, sample ",
        "position 0: ",
        "no log-probabilities here",
        "no row of this unit was written",
        "Up to the token that follows this position, the sample ends with \"<|endoftext|>",
    ] {
        assert!(error.contains(words), "{words}: {error}");
    }
    let commits = |fixture: &Fixture| fs::read_dir(fixture.path("cache/_commits")).map_or(0, Iterator::count);
    let begun = commits(&fixture);
    fixture.edit_recipe(&lies, &served.url);
    fixture.ok(&CACHE);
    assert!((1..commits(&fixture)).contains(&begun), "{begun} units were kept");
    assert_same(&samples(&fixture), &wanted);
}

#[test]
fn a_server_that_lies_or_refuses_from_the_start_leaves_no_folder() {
    let fixture = Fixture::new(30);
    let served = Served::new(&fixture);
    let refused = r#"{"error": {"message": "Requested prompt logprobs of 16, which is greater than max allowed: 5"}}"#;
    type Change = fn(Vec<u8>) -> Vec<u8>;
    let changes: [(Change, &[&str]); 3] = [
        (|_| answer(400, "PLACE"), &["greater than max allowed: 5", "--max-logprobs", "[cache] selection"]),
        (|_| answer(200, "{\"choices\": []}"), &["split `", "sample 0, position 0", "0 choices"]),
        (|_| answer(200, "<html>"), &["samples 0", "the answer is not of this interface"]),
    ];
    for (change, words) in changes {
        let lies = between(&served.url, move |number, honest| match number {
            0 => honest,
            _ => {
                let changed = String::from_utf8(change(honest)).unwrap();
                match changed.ends_with("PLACE") {
                    true => answer(400, refused),
                    false => changed.into_bytes(),
                }
            }
        });
        fixture.write_recipe("");
        ask(&fixture, &lies, "");
        let error = fixture.fails(&CACHE);
        assert!(words.iter().all(|word| error.contains(word)), "{words:?}: {error}");
        assert!(!fixture.path("cache").exists());
    }
    fixture.write_recipe("");
    ask(&fixture, &served.url, "");
    fixture.edit_recipe("max_length = 48", "max_length = 64");
    let error = fixture.fails(&CACHE);
    assert!(error.contains("the server takes windows of up to 63 tokens"), "{error}");
    fixture.edit_recipe("max_length = 64", "max_length = 48");
    fixture.edit_recipe("model = \"teacher\"", "model = \"another\"");
    let error = fixture.fails(&CACHE);
    assert!(error.contains("no model `another`; it has `teacher`"), "{error}");
}

#[test]
fn what_a_server_cannot_tell_is_refused_before_it_is_asked() {
    let top_k = "selection = { kind = \"top_k\", k = 16 }";
    let edits = [
        (top_k, "selection = { kind = \"dense\" }", "use top_k or top_p"),
        (top_k, "selection = { kind = \"sample\", n = 8 }", "use top_k or top_p"),
        (top_k, "always_keep = [1]", "always_keep"),
        (top_k, "temperature_range = [0.5, 4.0]", "temperature_range"),
        ("batch_tokens = 512", "precision = \"bf16\"", "precision is the server's own matter"),
        ("batch_tokens = 512", "connections = 0", "connections = 0"),
        ("batch_tokens = 512", "interface = \"chat\"", "prompt_logprobs"),
        ("alpha = 0.5", "alpha = 0.5\ntemperature = 2.0", "the tail's probability at T = 1 alone"),
    ];
    for (from, to, words) in edits {
        let fixture = Fixture::new(30);
        ask(&fixture, "http://127.0.0.1:1", "");
        fixture.edit_recipe(from, to);
        let error = fixture.fails(&CACHE);
        assert!(error.contains(words), "{to}: {error}");
    }
    let fixture = Fixture::new(30);
    fixture.edit_recipe("batch_tokens = 512", "interface = \"echo\"");
    assert!(fixture.fails(&CACHE).contains("[teacher] interface is for a teacher on a server"));
    ask(&fixture, "http://127.0.0.1:1", "");
    assert!(fixture.fails(&CACHE).contains("http://127.0.0.1:1/v1/models: no answer in 1 attempts"));
    let served = Served::new(&fixture);
    fixture.edit_recipe("http://127.0.0.1:1", &served.url);
    let error = fixture.fails(&["estimate", "recipe.toml", "--device", "cpu"]);
    assert!(error.contains("needs the teacher's logits, which a server does not give"), "{error}");
    fixture.edit_recipe("tokenizer = ", "connections = 2 #");
    assert!(fixture.fails(&CACHE).contains("name its folder with tokenizer = "));
}
