//! Comparison with jinja2 and `transformers` on the chat templates of a current release of TRL.

use super::answers::Asked;
use super::conversation::Body;
use super::template::{Context, Template};
use super::*;
use minijinja::Value;
use serde_json::Value as Json;
use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;

#[allow(clippy::print_stderr)]
#[path = "../../../../tests/skips.rs"]
mod skips;

/// What `tests/interop/templates.sh` writes; `None` without Python or network.
fn renderings() -> Option<Json> {
    let target = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned();
    let (script, out): (PathBuf, PathBuf) =
        ("../../tests/interop/templates.sh".into(), target.join("tmp/templates.json"));
    let made = Command::new("sh").arg(script).arg(&out).output();
    match made {
        Ok(made) if made.status.success() => Some(serde_json::from_slice(&fs::read(out).unwrap()).unwrap()),
        Ok(made) => {
            let why = String::from_utf8_lossy(&made.stderr).lines().last().unwrap_or("templates.sh failed").to_owned();
            skips::skip("comparison of chat templates with jinja2", &format!("it needs Python and network: {why}"));
            None
        }
        Err(error) => {
            skips::skip("comparison of chat templates with jinja2", &format!("it needs a shell: {error}"));
            None
        }
    }
}

/// A conversation and its variables, read as from a dataset.
fn row(case: &Json) -> (Conversation, Vec<(String, Value)>) {
    let columns = Columns::Messages { column: "messages".to_owned() };
    let conversation = conversation(&serde_json::from_str(case["row"].as_str().unwrap()).unwrap(), &columns).unwrap();
    let variables = case["variables"].as_object().unwrap().iter();
    (conversation, variables.map(|(name, value)| (name.clone(), Value::from(minijinja::value::Serde(value)))).collect())
}

#[test]
fn the_templates_of_trl_are_rendered_as_by_jinja2() {
    let Some(all) = renderings() else { return };
    let day = Some(dates::parse("2026-07-26").unwrap());
    let (mut equal, mut refused, mut different) = (0, 0, vec![]);
    for (template, case) in cases(&all) {
        let (conversation, variables) = row(case);
        let Body::Messages { turns, .. } = &conversation.body else { panic!("messages") };
        let context = Context { tools: conversation.tools.as_ref(), variables: &variables };
        let prompts = case["prompts"].as_bool().unwrap();
        let text = template["template"].as_str().unwrap();
        let rendered = Template::new(text, day).and_then(|template| template.render(turns, prompts, context));
        let name = format!("{}, {}", template["name"], case["name"]);
        match (rendered, case["text"].as_str()) {
            (Ok(rendered), Some(text)) if rendered.text == text && rendered.generated == spans(case) => equal += 1,
            (Err(_), None) => refused += 1,
            (Ok(rendered), Some(text)) => {
                let same = rendered.text.bytes().zip(text.bytes()).take_while(|(a, b)| a == b).count();
                let rest = |text: &str| String::from_utf8_lossy(&text.as_bytes()[same..]).chars().take(80).collect();
                let (ours, theirs): (String, String) = (rest(&rendered.text), rest(text));
                let of_both = (&rendered.generated, spans(case));
                different.push(format!("{name}: from byte {same} on {ours:?}, by jinja2 {theirs:?}; {of_both:?}"));
            }
            (Ok(rendered), None) => different.push(format!("{name}: {} by jinja2, {:?}", case["error"], rendered.text)),
            (Err(problem), Some(_)) => different.push(format!("{name}: refused, {problem}")),
        }
    }
    assert!(different.is_empty(), "{equal} equal, {refused} refused by both; different:\n{}", different.join("\n\n"));
    // 72 templates with seven conversations each in TRL 1.16.
    assert!(equal >= 400, "only {equal} renderings were compared");
}

/// For many templates TRL has the same one with `{% generation %}`: what it says the answer is, prefixes must find too,
/// except where an answer begins.
#[test]
fn prefixes_find_the_ends_that_generation_blocks_say() {
    let Some(all) = renderings() else { return };
    let day = Some(dates::parse("2026-07-26").unwrap());
    let (mut compared, mut same_start) = (0, 0);
    for (plain, case) in cases(&all).filter(|(_, case)| case["name"] == "one turn") {
        let training = plain["name"].as_str().unwrap().replace(".jinja", "_training.jinja");
        let with_blocks = cases(&all).find(|(other, other_case)| {
            other["name"] == training.as_str() && other_case["name"] == "one turn" && other_case["text"] == case["text"]
        });
        let Some((_, with_blocks)) = with_blocks.filter(|_| !case["text"].is_null()) else { continue };
        let (conversation, variables) = row(case);
        let Body::Messages { turns, prompt } = &conversation.body else { panic!("messages") };
        let context = Context { tools: None, variables: &variables };
        let token_edges = |text: &str| {
            text.match_indices(['<', '>']).map(|(at, edge)| if edge == "<" { at } else { at + 1 }).collect()
        };
        let asked = Asked { turns, prompt: *prompt, which: Turns::All, context, token_edges: &token_edges };
        let template = Template::new(plain["template"].as_str().unwrap(), day).unwrap();
        let (_, found) = asked.find(&template).unwrap_or_else(|problem| panic!("{}: {problem}", plain["name"]));
        let expected = spans(with_blocks);
        assert_eq!(found.len(), 1, "{}", plain["name"]);
        let ends = |spans: &[Range<usize>]| spans.last().map(|span| span.end);
        assert_eq!(ends(&found), ends(&expected), "{}", plain["name"]);
        compared += 1;
        same_start += usize::from(found[0].start == expected[0].start);
    }
    assert!(compared >= 20 && same_start * 2 > compared, "{compared} compared, {same_start} with the same start");
}

/// Every template with each of its conversations.
fn cases(all: &Json) -> impl Iterator<Item = (&Json, &Json)> {
    let templates = all["templates"].as_array().unwrap().iter();
    templates.flat_map(|template| template["cases"].as_array().unwrap().iter().map(move |case| (template, case)))
}

fn spans(case: &Json) -> Vec<Range<usize>> {
    let spans: Vec<[usize; 2]> = serde_json::from_value(case["spans"].clone()).unwrap();
    spans.into_iter().map(|[start, end]| start..end).collect()
}
