use super::super::settings::{Function, ResidualBin, Term};
use super::*;

fn settings(k: u32, exact_k: u32) -> Compression {
    Compression {
        d: 300,
        k,
        exact_k,
        exact_dtype: NumberFormat::Float32,
        polynomial_terms: None,
        term_dtype: NumberFormat::Float32,
        residual_bins: Vec::new(),
        delta_encoding: false,
        error_diffusion: false,
        normalize_t: false,
    }
}

fn floats(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn ids(ids: &[u64]) -> Vec<u8> {
    super::super::bits::pack(ids.iter().copied(), 9)
}

fn log_probs(settings: &Compression, values: &[u8]) -> Vec<f64> {
    let numbers: Vec<u64> = (0..settings.k.into()).collect();
    let entries = Decoder::new(settings).position(values, &ids(&numbers)).unwrap();
    entries.iter().map(|entry| entry.log_prob).collect()
}

#[test]
fn a_curve_has_its_terms_at_the_places_from_zero() {
    let terms = vec![Term::Power(0), Term::Power(2), Term::Function(Function::Sqrt), Term::Function(Function::Exp)];
    let plain = Compression { polynomial_terms: Some(terms), ..settings(4, 1) };
    let bytes = floats(&[-0.5, -2.0, 0.25, -1.0, -0.125]);
    let curve = |t: f64| -2.0 + 0.25 * t * t - t.sqrt() - 0.125 * t.exp();
    assert_eq!(log_probs(&plain, &bytes), [-0.5, curve(0.0), curve(1.0), curve(2.0)]);
    let normal = Compression { normalize_t: true, ..plain };
    assert_eq!(log_probs(&normal, &bytes), [-0.5, curve(0.0), curve(0.5), curve(1.0)]);
    let single = Compression { k: 2, ..normal };
    assert_eq!(log_probs(&single, &bytes), [-0.5, curve(0.0)], "one place is 0, not 0 / 0");
}

#[test]
fn residuals_are_added_to_the_first_places_of_the_curve() {
    let bin =
        |element_bits, num_elements| ResidualBin { scale_dtype: NumberFormat::Float32, element_bits, num_elements };
    let settings = Compression {
        polynomial_terms: Some(vec![Term::Power(0)]),
        residual_bins: vec![bin(3, 2), bin(1, 1)],
        ..settings(5, 1)
    };
    // Codes of three bits (7 and 0) count from 4, of one bit (0) from 1.
    let bytes = [floats(&[-0.5, -3.0, 0.25]), vec![0b1110_0000], floats(&[0.5]), vec![0]].concat();
    assert_eq!(log_probs(&settings, &bytes), [-0.5, -3.0 + 0.75, -3.0 - 1.0, -3.0 - 0.5, -3.0]);
    let stray = [floats(&[-0.5, -3.0, 0.25]), vec![0b1110_0001], floats(&[0.5]), vec![0]].concat();
    let problem = Decoder::new(&settings).position(&stray, &ids(&[0, 1, 2, 3, 4])).unwrap_err();
    assert!(problem.contains("residual bin"), "{problem}");
}

#[test]
fn differences_are_summed() {
    let settings = Compression { delta_encoding: true, ..settings(3, 3) };
    assert_eq!(log_probs(&settings, &floats(&[-0.5, -1.0, -0.25])), [-0.5, -1.5, -1.75]);
}

#[test]
fn every_number_format_is_read() {
    use half::{bf16, f16};
    let of = |format, bytes: &[u8]| log_probs(&Compression { exact_dtype: format, ..settings(1, 1) }, bytes);
    assert_eq!(of(NumberFormat::Float16, &f16::from_f32(-1.5).to_le_bytes()), [-1.5]);
    assert_eq!(of(NumberFormat::Bfloat16, &bf16::from_f32(-1.5).to_le_bytes()), [-1.5]);
    assert_eq!(of(NumberFormat::Float32, &(-1.5f32).to_le_bytes()), [-1.5]);
    assert_eq!(of(NumberFormat::Float64, &(-1.5f64).to_le_bytes()), [-1.5]);
}

#[test]
fn bytes_that_do_not_fit_the_settings_are_refused() {
    let decoder = Decoder::new(&settings(3, 3));
    let (values, places) = (floats(&[-0.5, -1.0, -2.0]), ids(&[7, 299, 12]));
    assert_eq!(
        decoder.position(&values, &places).unwrap().iter().map(|entry| entry.id).collect::<Vec<_>>(),
        [7, 299, 12]
    );
    for (values, places, words) in [
        (&values[..11], &places[..], "`compressed_logprobs` has 11 bytes, but the settings make 12"),
        (&values, &places[..3], "`bytepacked_indices` has 3 bytes, but the settings make 4"),
        (&values, &[0, 0, 0, 1], "bits after the last id of 9 bits"),
    ] {
        let problem = decoder.position(values, places).unwrap_err();
        assert!(problem.contains(words), "{problem}");
    }
}
