use super::*;
use proptest::prelude::*;

/// Pseudo-random numbers that are the same on every machine.
struct Rng(u64);

impl Rng {
    fn below(&mut self, end: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (((self.0 >> 33) * u64::from(end)) >> 31) as u32
    }

    /// A pseudo-random number that is more often small.
    fn small(&mut self, end: u32) -> u32 {
        let bits = self.below(end.ilog2() + 2);
        self.below((1 << bits).min(end))
    }
}

type Samples = Vec<(Vec<u32>, CodedEntries)>;

/// Valid samples with repeated tokens, many ties, and codes up to the largest.
fn samples(rng: &mut Rng, vocab: u32, shape: CountMode, codes: ValueCode, count: usize, longest: u32) -> Samples {
    let largest = if codes == ValueCode::Half { 0x7bff } else { 2047 };
    let sample = |rng: &mut Rng| {
        let mut entries = CodedEntries::default();
        let tokens: Vec<u32> = (0..1 + rng.below(longest - 1)).map(|_| rng.small(vocab)).collect();
        for _ in &tokens {
            let count = match shape {
                CountMode::Fixed(n) | CountMode::Split { n } => u32::from(n),
                CountMode::Varying { cap } => 1 + rng.small(u32::from(cap)),
                CountMode::Dense => vocab,
            };
            let (base, range) = (rng.small(largest + 1), 1 + rng.below(200));
            let mut ids: Vec<u32> = (0..vocab).collect();
            for at in 0..count {
                let other = at + rng.small(vocab - at);
                ids.swap(at as usize, other as usize);
            }
            let head = rng.below(count + 1);
            let is_split = matches!(shape, CountMode::Split { .. });
            let code = |rng: &mut Rng| (base + rng.below(range)).min(largest) as u16;
            let mut all: Vec<(bool, u16, u32)> =
                (ids.iter().zip(0..count)).map(|(&id, at)| (is_split && at >= head, code(rng), id)).collect();
            if shape == CountMode::Dense {
                all.sort_by_key(|&(.., id)| id);
            } else {
                all.sort();
            }
            entries.counts.push(count as u16);
            if is_split {
                entries.heads.push(head as u16);
            }
            entries.class_ids.extend(all.iter().map(|&(.., id)| id));
            entries.codes.extend(all.iter().map(|&(_, code, _)| code));
        }
        (tokens, entries)
    };
    (0..count).map(|_| sample(rng)).collect()
}

fn train(vocab: u32, shape: CountMode, codes: ValueCode, samples: &Samples) -> Model {
    Model::train(vocab, shape, codes, samples.iter().map(|(tokens, entries)| (&tokens[..], entries)))
}

fn shapes() -> impl Strategy<Value = (u32, CountMode)> {
    let shape = |(vocab, kind, n): (u32, u8, u32)| {
        let n = n.min(vocab) as u16;
        let shape = [CountMode::Fixed(n), CountMode::Varying { cap: n }, CountMode::Split { n }, CountMode::Dense];
        (if kind == 3 { vocab.min(50) } else { vocab }, shape[usize::from(kind)])
    };
    (prop_oneof![1_u32..40, 40_u32..3000], 0..4_u8, 1..70_u32).prop_map(shape)
}

fn codes() -> impl Strategy<Value = ValueCode> {
    prop_oneof![Just(ValueCode::Steps), Just(ValueCode::Half)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_was_encoded_is_decoded((vocab, shape) in shapes(), codes in codes(), longest in 2..40_u32, seed: u64) {
        let rng = &mut Rng(seed);
        let known = samples(rng, vocab, shape, codes, 8, longest);
        let strange = samples(rng, vocab, shape, codes, 3, 2);
        let model = train(vocab, shape, codes, &known);
        let bytes = model.to_bytes();
        let read = Model::from_bytes(&bytes, vocab, shape, codes).unwrap();
        prop_assert!(read.to_bytes() == bytes);
        for (tokens, entries) in known.iter().chain(&strange) {
            let packed = model.encode(tokens, entries);
            prop_assert!(read.encode(tokens, entries) == packed);
            prop_assert_eq!(&read.decode(tokens, &packed).unwrap(), entries);
        }
    }

    #[test]
    fn whatever_is_decoded_has_no_other_bytes((vocab, shape) in shapes(), codes in codes(), seed: u64) {
        let rng = &mut Rng(seed);
        let known = samples(rng, vocab, shape, codes, 6, 12);
        let model = train(vocab, shape, codes, &known);
        for (tokens, entries) in &known {
            let packed = model.encode(tokens, entries);
            for bytes in (0..100).map(|_| damaged(rng, &packed)).filter(|bytes| *bytes != packed) {
                if let Ok(entries) = model.decode(tokens, &bytes) {
                    prop_assert!(model.encode(tokens, &entries) == bytes);
                }
            }
        }
    }

    #[test]
    fn a_damaged_model_is_refused_or_works((vocab, shape) in shapes(), codes in codes(), seed: u64) {
        let rng = &mut Rng(seed);
        let known = samples(rng, vocab, shape, codes, 6, 12);
        let model = train(vocab, shape, codes, &known);
        let bytes = model.to_bytes();
        for _ in 0..8 {
            let Ok(other) = Model::from_bytes(&damaged(rng, &bytes), vocab, shape, codes) else { continue };
            let (tokens, entries) = &known[0];
            prop_assert_eq!(&other.decode(tokens, &other.encode(tokens, entries)).unwrap(), entries);
            if let Ok(entries) = other.decode(tokens, &model.encode(tokens, entries)) {
                prop_assert_eq!(&other.decode(tokens, &other.encode(tokens, &entries)).unwrap(), &entries);
            }
        }
    }

    #[test]
    fn noise_is_no_sample(noise in proptest::collection::vec(any::<u8>(), 0..200), seed: u64) {
        let shape = CountMode::Fixed(8);
        let known = samples(&mut Rng(seed), 100, shape, ValueCode::Steps, 4, 12);
        let model = train(100, shape, ValueCode::Steps, &known);
        if let Ok(entries) = model.decode(&known[0].0, &noise) {
            prop_assert!(model.encode(&known[0].0, &entries) == noise);
        }
        let _ = Model::from_bytes(&noise, 100, shape, ValueCode::Steps);
    }
}

/// The bytes with a random change, truncation or addition.
fn damaged(rng: &mut Rng, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let place = rng.below(bytes.len() as u32) as usize;
    match rng.below(4) {
        0 => bytes.truncate(place),
        1 => bytes[place] = rng.below(256) as u8,
        2 => bytes.push(rng.below(256) as u8),
        _ => bytes[place] ^= 1 << rng.below(8),
    }
    bytes
}

#[test]
fn a_shard_without_samples_has_a_model() {
    let model = train(1000, CountMode::Fixed(8), ValueCode::Steps, &Vec::new());
    let read = Model::from_bytes(&model.to_bytes(), 1000, CountMode::Fixed(8), ValueCode::Steps).unwrap();
    let known = samples(&mut Rng(1), 1000, CountMode::Fixed(8), ValueCode::Steps, 1, 30);
    assert_eq!(read.decode(&known[0].0, &read.encode(&known[0].0, &known[0].1)).unwrap(), known[0].1);
}

#[test]
fn the_largest_vocabulary_works() {
    let known = samples(&mut Rng(2), MAX_VOCAB, CountMode::Fixed(16), ValueCode::Half, 2, 30);
    let model = train(MAX_VOCAB, CountMode::Fixed(16), ValueCode::Half, &known);
    let read = Model::from_bytes(&model.to_bytes(), MAX_VOCAB, CountMode::Fixed(16), ValueCode::Half).unwrap();
    for (tokens, entries) in &known {
        assert_eq!(read.decode(tokens, &model.encode(tokens, entries)).unwrap(), *entries);
    }
    assert!(Model::from_bytes(&model.to_bytes(), MAX_VOCAB + 1, CountMode::Fixed(16), ValueCode::Half).is_err());
}

#[test]
fn every_half_comes_back() {
    for code in 0..=0x7bff {
        let entries = CodedEntries { counts: vec![1], heads: Vec::new(), class_ids: vec![3], codes: vec![code] };
        if code % 997 == 0 || code.is_multiple_of(1024) || code < 4 {
            let model = train(5, CountMode::Fixed(1), ValueCode::Half, &vec![(vec![0], entries.clone())]);
            assert_eq!(model.decode(&[0], &model.encode(&[0], &entries)).unwrap(), entries);
        }
        let coarse = ValueCode::Half.coarse(code);
        assert!(coarse <= ValueCode::Half.coarse_max() && (code == 0 || coarse >= ValueCode::Half.coarse(code - 1)));
    }
}

#[test]
fn likely_classes_cost_little() {
    let sample = |shift: u32| {
        let tokens: Vec<u32> = (0..99).map(|i| (i * i + shift) % 7).collect();
        let mut entries = CodedEntries::default();
        for &token in &tokens {
            entries.counts.push(16);
            entries.class_ids.extend((0..16).map(|i| token * 100 + i * 5));
            entries.codes.extend((0..16).map(|i| i * 9 + token as u16));
        }
        (tokens, entries)
    };
    let known: Samples = (0..20).map(sample).collect();
    let model = train(1000, CountMode::Fixed(16), ValueCode::Steps, &known);
    let bytes: usize = known.iter().map(|(tokens, entries)| model.encode(tokens, entries).len()).sum();
    assert!(bytes < 20 * 99 * 16 / 2, "{bytes} bytes");
}
