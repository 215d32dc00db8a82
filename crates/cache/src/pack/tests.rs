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

/// Steps of 1/16 nat.
const STEPS: ValueCode = ValueCode::Steps(16);

/// Tokens and labels, and what is said about them.
type Samples = Vec<([Vec<u32>; 2], CodedRows)>;

fn inputs([tokens, labels]: &[Vec<u32>; 2]) -> Inputs<'_> {
    Inputs { tokens, labels }
}

/// Valid samples with repeated tokens, many ties, and codes up to the largest.
fn samples(rng: &mut Rng, shape: RowShape, count: usize, longest: u32) -> Samples {
    let vocab = shape.vocab;
    let sample = |rng: &mut Rng| {
        let (mut rows, mut labels) = (CodedRows::default(), Vec::new());
        let tokens: Vec<u32> = (0..1 + rng.below(longest - 1)).map(|_| rng.small(vocab)).collect();
        for at in 0..tokens.len() {
            let start = rows.codes.len();
            push_entries(rng, shape, &mut rows);
            let entries = rows.entries(at, start..rows.codes.len());
            labels.push(match rng.below(2) {
                0 => entries.class_ids[rng.below(entries.class_ids.len() as u32) as usize],
                _ => rng.below(vocab),
            });
            let summary = random_summary(rng, shape, entries, labels[at]);
            rows.push_summary(&summary, &shape);
        }
        ([tokens, labels], rows)
    };
    (0..count).map(|_| sample(rng)).collect()
}

fn largest(shape: RowShape) -> u32 {
    if shape.codes == ValueCode::Half { 0x7bff } else { 2047 + 10 * 16 }
}

fn push_entries(rng: &mut Rng, shape: RowShape, rows: &mut CodedRows) {
    let (vocab, largest) = (shape.vocab, largest(shape));
    let count = match shape.counts {
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
    let is_split = matches!(shape.counts, CountMode::Split { .. });
    let code = |rng: &mut Rng| (base + rng.below(range)).min(largest) as u16;
    let mut all: Vec<(bool, u16, u32)> =
        (ids.iter().zip(0..count)).map(|(&id, at)| (is_split && at >= head, code(rng), id)).collect();
    if shape.counts == CountMode::Dense {
        all.sort_by_key(|&(.., id)| id);
    } else {
        all.sort();
    }
    rows.counts.push(count as u16);
    if is_split {
        rows.heads.push(head as u16);
    }
    rows.class_ids.extend(all.iter().map(|&(.., id)| id));
    rows.codes.extend(all.iter().map(|&(_, code, _)| code));
}

/// A summary with every form of log_z, and atoms on and off the coarse grid, some of them unused.
fn random_summary(rng: &mut Rng, shape: RowShape, entries: Entries<'_>, label: u32) -> Summary {
    let mut summary = Summary { log_z: rng.below(1 << 31) << 1 | rng.below(2), ..Summary::UNKNOWN };
    if rng.below(3) > 0 {
        let units = 512 + rng.below(60_000);
        summary.log_z = (units as f32 / 512.0).to_bits() + rng.below(2) * rng.below(200);
    }
    (summary.gold_rank, summary.gold_code) = (rng.small(MAX_VOCAB), rng.small(largest(shape) + 1) as u16);
    if let Some(place) = entries.class_ids.iter().position(|&id| id == label) {
        summary.gold_code = entries.codes[place];
        if place < entries.head {
            let before = entries.codes[..entries.head].iter().filter(|code| **code < summary.gold_code).count();
            summary.gold_rank = before as u32 + rng.below(3);
        }
    } else if shape.labels == LabelMode::Kept {
        summary.gold_rank = NOT_KEPT;
    }
    let used = shape.atoms - rng.small(shape.atoms as u32 + 1) as usize;
    let is_fine = rng.below(4) == 0;
    for atom in &mut summary.atoms[..used] {
        // Less than the range's end, which stands for an unused atom.
        *atom = [rng.below(65_000), rng.below(65_000)].map(|value| (value as i32 - 32_500) as i16);
        if !is_fine {
            atom[0] &= -32;
        }
    }
    summary
}

fn train(shape: RowShape, samples: &Samples) -> Model {
    Model::train(shape, samples.iter().map(|(own, rows)| (inputs(own), rows)))
}

fn fixed(vocab: u32, n: u16, codes: ValueCode) -> RowShape {
    RowShape { vocab, counts: CountMode::Fixed(n), codes, atoms: 5, log_z: true, labels: LabelMode::All }
}

fn shapes() -> impl Strategy<Value = RowShape> {
    type Known = (bool, LabelMode);
    let shape = |((vocab, kind, n), codes, atoms, (log_z, labels)): ((u32, u8, u32), ValueCode, usize, Known)| {
        let n = n.min(vocab) as u16;
        let counts = [CountMode::Fixed(n), CountMode::Varying { cap: n }, CountMode::Split { n }, CountMode::Dense];
        let vocab = if kind == 3 { vocab.min(50) } else { vocab };
        RowShape { vocab, counts: counts[usize::from(kind)], codes, atoms, log_z, labels }
    };
    let codes = prop_oneof![Just(STEPS), Just(ValueCode::Half)];
    let labels = prop_oneof![3 => Just(LabelMode::All), 1 => Just(LabelMode::Kept), 1 => Just(LabelMode::Unknown)];
    let kinds = (prop_oneof![1_u32..40, 40_u32..3000], 0..4_u8, 1..70_u32);
    (kinds, codes, 0..=MAX_ATOMS, (prop::bool::weighted(0.8), labels)).prop_map(shape)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_was_encoded_is_decoded(shape in shapes(), longest in 2..40_u32, seed: u64) {
        let rng = &mut Rng(seed);
        let known = samples(rng, shape, 8, longest);
        let strange = samples(rng, shape, 3, 2);
        let model = train(shape, &known);
        let bytes = model.to_bytes();
        let read = Model::from_bytes(&bytes, shape).unwrap();
        prop_assert!(read.to_bytes() == bytes);
        for (own, rows) in known.iter().chain(&strange) {
            let packed = model.encode(inputs(own), rows);
            prop_assert!(read.encode(inputs(own), rows) == packed);
            prop_assert_eq!(&read.decode(inputs(own), &packed).unwrap(), rows);
        }
    }

    #[test]
    fn whatever_is_decoded_has_no_other_bytes(shape in shapes(), seed: u64) {
        let rng = &mut Rng(seed);
        let known = samples(rng, shape, 6, 12);
        let model = train(shape, &known);
        for (own, rows) in &known {
            let packed = model.encode(inputs(own), rows);
            for bytes in (0..100).map(|_| damaged(rng, &packed)).filter(|bytes| *bytes != packed) {
                if let Ok(rows) = model.decode(inputs(own), &bytes) {
                    prop_assert!(model.encode(inputs(own), &rows) == bytes);
                }
            }
        }
    }

    #[test]
    fn a_damaged_model_is_refused_or_works(shape in shapes(), seed: u64) {
        let rng = &mut Rng(seed);
        let known = samples(rng, shape, 6, 12);
        let model = train(shape, &known);
        let bytes = model.to_bytes();
        for _ in 0..8 {
            let Ok(other) = Model::from_bytes(&damaged(rng, &bytes), shape) else { continue };
            let (own, rows) = &known[0];
            let own = inputs(own);
            prop_assert_eq!(&other.decode(own, &other.encode(own, rows)).unwrap(), rows);
            if let Ok(rows) = other.decode(own, &model.encode(own, rows)) {
                prop_assert_eq!(&other.decode(own, &other.encode(own, &rows)).unwrap(), &rows);
            }
        }
    }

    #[test]
    fn noise_is_no_sample(noise in proptest::collection::vec(any::<u8>(), 0..200), seed: u64) {
        let shape = fixed(100, 8, STEPS);
        let known = samples(&mut Rng(seed), shape, 4, 12);
        let (model, own) = (train(shape, &known), inputs(&known[0].0));
        if let Ok(rows) = model.decode(own, &noise) {
            prop_assert!(model.encode(own, &rows) == noise);
        }
        let _ = Model::from_bytes(&noise, shape);
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
    let shape = fixed(1000, 8, STEPS);
    let read = Model::from_bytes(&train(shape, &Vec::new()).to_bytes(), shape).unwrap();
    let (own, rows) = &samples(&mut Rng(1), shape, 1, 30)[0];
    assert_eq!(read.decode(inputs(own), &read.encode(inputs(own), rows)).unwrap(), *rows);
}

#[test]
fn the_largest_vocabulary_works() {
    let shape = fixed(MAX_VOCAB, 16, ValueCode::Half);
    let known = samples(&mut Rng(2), shape, 2, 30);
    let model = train(shape, &known);
    let read = Model::from_bytes(&model.to_bytes(), shape).unwrap();
    for (own, rows) in &known {
        assert_eq!(read.decode(inputs(own), &model.encode(inputs(own), rows)).unwrap(), *rows);
    }
    assert!(Model::from_bytes(&model.to_bytes(), RowShape { vocab: MAX_VOCAB + 1, ..shape }).is_err());
}

/// One position, which keeps class 3 with this code.
fn one(code: u16) -> ([Vec<u32>; 2], CodedRows) {
    let rows = CodedRows {
        counts: vec![1],
        class_ids: vec![3],
        codes: vec![code],
        log_z: vec![17.25_f32.to_bits()],
        gold_ranks: vec![4],
        gold_codes: vec![code],
        atoms: vec![[-4096, 32]; 5],
        ..CodedRows::default()
    };
    ([vec![0], vec![0]], rows)
}

#[test]
fn every_code_comes_back() {
    for (codes, last) in [(ValueCode::Half, 0x7bff_u16), (ValueCode::Steps(32), 2367), (ValueCode::Steps(2), 2067)] {
        for code in 0..=last {
            if code < 500 || code % 97 == 0 || code.is_multiple_of(1024) {
                let (own, rows) = one(code);
                let model = train(fixed(5, 1, codes), &vec![(own.clone(), rows.clone())]);
                assert_eq!(model.decode(inputs(&own), &model.encode(inputs(&own), &rows)).unwrap(), rows);
            }
            let coarse = codes.coarse(code);
            assert!(coarse <= codes.coarse_max() && (code == 0 || coarse >= codes.coarse(code - 1)));
        }
    }
}

/// The code of a kept label is that of its entry, and its rank is not before the entry's equals.
#[test]
fn labels_that_contradict_the_entries_are_no_input() {
    let (own, mut rows) = one(7);
    let own = [own[0].clone(), vec![3]];
    rows.counts = vec![2];
    (rows.class_ids, rows.codes, rows.gold_ranks) = (vec![1, 3], vec![5, 7], vec![1]);
    let model = train(fixed(5, 2, STEPS), &vec![(own.clone(), rows.clone())]);
    let is_encoded = |change: fn(&mut CodedRows)| {
        let mut rows = rows.clone();
        change(&mut rows);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| model.encode(inputs(&own), &rows))).is_ok()
    };
    assert!(is_encoded(|_| ()) && is_encoded(|rows| rows.gold_ranks[0] = 4));
    assert!(!is_encoded(|rows| rows.gold_codes[0] += 1) && !is_encoded(|rows| rows.gold_ranks[0] = 0));
}

#[test]
fn likely_classes_and_a_regular_tail_cost_little() {
    let sample = |shift: u32| {
        let tokens: Vec<u32> = (0..99).map(|i| (i * i + shift) % 7).collect();
        let mut rows = CodedRows::default();
        for &token in &tokens {
            rows.counts.push(16);
            rows.class_ids.extend((0..16).map(|i| token * 100 + i * 5));
            // Below -2 nats, where no bits are left open.
            rows.codes.extend((0..16).map(|i| 192 + i * 9 + token as u16));
            let atom = |at: i16| [-2048 - 512 * at - 64 * token as i16, 256 + 16 * token as i16];
            rows.push_summary(
                &Summary {
                    log_z: (17.0 + token as f32).to_bits(),
                    gold_rank: 0,
                    gold_code: rows.codes[rows.codes.len() - 16],
                    atoms: std::array::from_fn(|at| atom(at as i16)),
                },
                &fixed(1000, 16, STEPS),
            );
        }
        ([tokens.clone(), tokens.iter().map(|token| token * 100).collect()], rows)
    };
    let known: Samples = (0..20).map(sample).collect();
    let model = train(fixed(1000, 16, STEPS), &known);
    let bytes: usize = known.iter().map(|(own, rows)| model.encode(inputs(own), rows).len()).sum();
    assert!(bytes < 20 * 99 * 9, "{bytes} bytes");
}
