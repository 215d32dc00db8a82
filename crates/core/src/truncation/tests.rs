//! Tests of truncations.

use super::*;

const MASS: RowSource = RowSource { tail: TailSource::Mass, ..RowSource::FULL };
const TAIL: TailRule = TailRule { lowest_temperature: 0.75, highest_temperature: 10.0, atoms: 5 };

#[test]
fn every_code_is_an_f16_and_comes_back() {
    for values in [
        LogProbPrecision::F16 {},
        LogProbPrecision::Quantised { step: 0.0625 },
        LogProbPrecision::Quantised { step: 0.031_25 },
    ] {
        let mut last = f32::INFINITY;
        for code in 0..=values.max_code() {
            let value = values.value(code);
            assert_eq!(values.code(value), Some(code), "{values:?} {value}");
            assert_eq!(f16::from_f32(value).to_f32(), value);
            assert!(value < last, "codes grow as values fall");
            last = value;
        }
        assert_eq!(values.round(0.0).map(f32::to_bits), Some(0), "zero has no sign");
        assert_eq!(values.round(1e-9), Some(0.0), "a rounding error above 0 is 0");
        assert_eq!(values.code(-1e6), None);
    }
    assert_eq!(LogProbPrecision::Quantised { step: 0.0625 }.round(-2.04), Some(-2.0625));
}

#[test]
fn what_is_written_is_what_rounds_to_itself() {
    for values in [
        LogProbPrecision::F16 {},
        LogProbPrecision::Quantised { step: 0.5 },
        LogProbPrecision::Quantised { step: 0.031_25 },
    ] {
        let near = |bits: u32| [bits.wrapping_sub(1), bits, bits + 1, bits ^ 0x1000, bits ^ 0x8000_0000];
        let codes = (0..=values.max_code()).flat_map(|code| near(values.value(code).to_bits()));
        let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 1.0, -1e6, -65520.0, f32::MIN].map(f32::to_bits);
        for bits in codes.chain(odd).chain((0..1 << 16).map(|high| high << 16 | 0x2000)) {
            let slow = values.round(f32::from_bits(bits)).is_some_and(|written| written.to_bits() == bits);
            assert_eq!(values.writes(f32::from_bits(bits)), slow, "{values:?}: {}", f32::from_bits(bits));
        }
    }
}

#[test]
fn impossible_wishes_say_why() {
    let keep = |selection, always_keep: &[u32], tail| Truncation {
        selection,
        always_keep: always_keep.to_vec(),
        values: LogProbPrecision::F16 {},
        tail,
        padding: 0,
        source: RowSource::FULL,
    };
    let top = Selection::TopK { k: 4 };
    let sample = Selection::Sample { n: 2, seed: 0 };
    assert_eq!(keep(top, &[1, 7], Some(TAIL)).check(8), Ok(()));
    assert_eq!(Truncation { source: MASS, ..keep(top, &[], None) }.check(8), Ok(()));
    assert_eq!(keep(top, &[1, 7], Some(TAIL)).max_kept(8), 6);
    for (bad, message) in [
        (keep(top, &[7, 1], Some(TAIL)), "ascending"),
        (keep(top, &[8], Some(TAIL)), "classes below 8"),
        (keep(top, &[], None), "needs a tail"),
        (keep(Selection::Dense {}, &[], Some(TAIL)), "no tail"),
        (Truncation { source: MASS, ..keep(top, &[], Some(TAIL)) }, "tail = a table was given, but it must be null"),
        (Truncation { source: MASS, ..keep(top, &[3], None) }, "source.tail = \"mass\" was given"),
        (Truncation { source: MASS, ..keep(sample, &[], None) }, "only top_k and top_p"),
        (keep(sample, &[1, 2], Some(TAIL)), "would be left to draw"),
        (Truncation { padding: 3, ..keep(Selection::TopK { k: 8 }, &[], Some(TAIL)) }, "use dense"),
        (Truncation { values: LogProbPrecision::Quantised { step: 0.1 }, ..keep(top, &[], Some(TAIL)) }, "one of"),
        (keep(top, &[], Some(TailRule { lowest_temperature: 1.5, ..TAIL })), "0.05 to 1"),
    ] {
        let error = bad.check(8).expect_err(message);
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[test]
fn log_z_has_a_step_where_values_have_one() {
    let quantised = LogProbPrecision::Quantised { step: 0.0625 };
    assert_eq!(LogProbPrecision::F16 {}.round_log_z(17.123_456_789), 17.123_457);
    assert_eq!(quantised.round_log_z(17.123_456_789), 8767.0 / 512.0);
    assert_eq!(quantised.round_log_z(-1.5 / 512.0), -2.0 / 512.0, "halves away from 0");
    assert_eq!((LogProbPrecision::F16 {}.log_z_step(), quantised.log_z_step()), (0.0, LOG_Z_STEP));
}

#[test]
fn quantised_values_are_closer_where_probabilities_are_large() {
    let values = LogProbPrecision::Quantised { step: 0.0625 };
    for (log_prob, step) in
        [(-0.3_f32, 128.0), (-0.996, 128.0), (-1.3, 64.0), (-1.99, 64.0), (-2.3, 16.0), (-90.0, 16.0)]
    {
        let written = values.round(log_prob).unwrap();
        assert!((written - log_prob).abs() <= 0.5 / step, "{log_prob} {written}");
        assert!(values.writes(written) && !values.writes(written - 0.5 / step), "{written}");
        assert!(values.writes(written - 1.0 / step), "{written}");
    }
    assert_eq!(["-0.9999", "-1.9999"].map(|lp| values.round(lp.parse().unwrap())), [Some(-1.0), Some(-2.0)]);
    assert_eq!((values.max_code(), values.value(values.max_code())), (2047 + 160, -2047.0 / 16.0));
    assert_eq!(values.round(-2048.0 / 16.0), None);
}
