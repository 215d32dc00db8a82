use super::*;

const YAML: &str = "d: 2048\nk: 18\nexact_k: 2\nexact_dtype: float16\npolynomial_terms:\n- 0\n- 1\n- sqrt\n- exp\n\
                    residual_bins:\n- element_bits: 4\n  num_elements: 7\n  scale_dtype: bfloat16\n";

#[test]
fn what_a_yaml_leaves_out_is_distillkits_default() {
    let Settings::Compressed(settings) = Settings::parse(YAML).unwrap() else { panic!("not the newer form") };
    assert!(settings.delta_encoding && !settings.normalize_t && !settings.error_diffusion);
    assert_eq!((settings.exact_dtype, settings.term_dtype), (NumberFormat::Float16, NumberFormat::Float32));
    let terms = [Term::Power(0), Term::Power(1), Term::Function(Function::Sqrt), Term::Function(Function::Exp)];
    assert_eq!(settings.terms(), terms);
    let legacy = Settings::parse("k: 14\nexact_k: 6\npolynomial_degree: 3\nvocab_size: 131072\n").unwrap();
    let Settings::Legacy(legacy) = legacy else { panic!("not the older form") };
    assert!(legacy.invert_polynomial && !legacy.with_sqrt_term);
}

#[test]
fn settings_come_back_from_their_yaml() {
    let settings = Settings::parse(YAML).unwrap();
    assert_eq!(Settings::parse(&yaml_serde::to_string(&settings).unwrap()).unwrap(), settings);
}

#[test]
fn contradictions_are_refused_by_the_key() {
    for (from, to, words) in [
        ("d: 2048", "d: 17", "k = 18, but 1 to 17"),
        ("d: 2048", "d: 1", "d = 1"),
        ("k: 18", "k: 0", "k = 0"),
        ("exact_k: 2", "exact_k: 19", "exact_k = 19"),
        ("num_elements: 7", "num_elements: 17", "17 elements, but k - exact_k = 16"),
        ("element_bits: 4", "element_bits: 65", "65 bits"),
        ("- 1\n", "- -1\n", "powers from 0 on"),
        ("- exp", "- log", "polynomial_terms"),
        ("float16", "float8", "float8"),
        ("k: 18", "k: 18\nsplits: 3", "splits"),
        ("d: 2048\n", "", "`d`"),
    ] {
        assert!(YAML.contains(from), "{from}");
        let problem = Settings::parse(&YAML.replacen(from, to, 1)).unwrap_err();
        assert!(problem.contains(words), "{to}: {problem}");
    }
    let nothing = "d: 2048\nk: 18\nexact_k: 2\nresidual_bins: []\n";
    assert!(Settings::parse(nothing).unwrap_err().contains("nothing says what they are"));
}

#[test]
fn the_only_yaml_beside_the_data_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let read = || Settings::read(None, folder.path()).map_err(|error| error.to_string());
    assert!(read().unwrap_err().contains("has no YAML file"));
    fs::write(folder.path().join("compression_config.yaml"), YAML).unwrap();
    assert_eq!(read().unwrap().k(), 18);
    fs::write(folder.path().join("other.yml"), YAML).unwrap();
    let error = read().unwrap_err();
    assert!(error.contains("compression_config.yaml, other.yml") && error.contains("--settings"), "{error}");
    let named = folder.path().join("other.yml");
    assert_eq!(Settings::read(Some(&named), folder.path()).unwrap().k(), 18);
}

#[test]
fn ids_take_the_bits_of_the_largest() {
    assert_eq!([2, 3, 2048, 2049, 131_072, 1 << 32].map(id_bits), [1, 2, 11, 12, 17, 32]);
}
