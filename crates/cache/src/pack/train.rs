//! Training of a model on a shard, and the model's own bytes.

use super::coder::NUMBER_SYMBOLS;
use super::context_model::{
    self, Candidate, CandidateList, Class, ContextModel, MAX_CANDIDATES, MIN_SHARE, level, share_level, top_level,
};
use super::error::PackError;
use super::predictor::{Features, Predictor, PredictorFit};
use super::range::{Decoder, Encoder};
use super::summary::{FLAGS, TABLES};
use super::tables::{Counter, Tables, weights_from_bytes, weights_to_bytes};
use super::{CodedRows, CountMode, Inputs, MAX_VOCAB, Model, RowShape, ValueCode};

/// Minimum number of positions of a token for a list, and of occurrences of a class there to be listed.
const MIN_POSITIONS: u32 = 8;

/// A position of the shard.
struct ObservedPosition<'a> {
    /// The input token.
    token: u32,
    /// Upper bound of the heights.
    top: u32,
    /// The kept classes.
    class_ids: &'a [u32],
    /// The codes of their log-probabilities.
    codes: &'a [u16],
}

/// Occurrences and heights of classes over some positions.
struct ClassCounts {
    /// Number of occurrences, by class.
    counts: Vec<u32>,
    /// Sum of heights, by class.
    heights: Vec<u64>,
    /// The classes that occurred.
    touched: Vec<u32>,
}

impl ClassCounts {
    /// Creates counts over no positions.
    fn new(vocab: u32) -> Self {
        Self { counts: vec![0; vocab as usize], heights: vec![0; vocab as usize], touched: Vec::new() }
    }

    /// Adds one position.
    fn add(&mut self, seen: &ObservedPosition, codes: ValueCode) {
        for (&id, &code) in seen.class_ids.iter().zip(seen.codes) {
            let count = &mut self.counts[id as usize];
            if *count == 0 {
                self.touched.push(id);
            }
            *count += 1;
            self.heights[id as usize] += u64::from(seen.top - codes.coarse(code));
        }
    }

    /// Returns the occurrences and mean height of a class, and resets them.
    fn take(&mut self, id: u32) -> (u32, u32) {
        let count = std::mem::take(&mut self.counts[id as usize]);
        let height = std::mem::take(&mut self.heights[id as usize]);
        (count, (height / u64::from(count.max(1))) as u32)
    }
}

impl Model {
    /// Trains a model on samples: their inputs and rows. The same samples in the same order give the same model.
    pub(crate) fn train<'a>(
        shape: RowShape,
        samples: impl Iterator<Item = (Inputs<'a>, &'a CodedRows)> + Clone,
    ) -> Self {
        assert!(fits(shape), "{shape:?}");
        let mut model = Self {
            shape,
            lists: survey(shape, samples.clone()),
            predictor: predictor(shape, samples.clone()),
            weights: Vec::new(),
            tables: Tables::default(),
        };
        let mut counter = Counter::new(TABLES, FLAGS);
        let same = model.lists.code_all(&mut counter, shape.vocab, model.longest());
        assert!(same.as_ref() == Ok(&model.lists), "the lists do not survive coding");
        for (inputs, rows) in samples {
            model.code_all(&mut counter, inputs, rows);
        }
        model.set_weights(counter.weights());
        model
    }

    /// Maximum length of a list: each candidate has at least `MIN_SHARE` of 64 parts of the entries at a position.
    fn longest(&self) -> u32 {
        match self.shape.counts {
            CountMode::Fixed(n) | CountMode::Varying { cap: n } | CountMode::Split { n } => {
                self.shape.vocab.min(64 * u32::from(n))
            }
            CountMode::Dense => 0,
        }
    }

    /// Encodes the model: the tables' weights, the coefficients, then the lists coded with those tables.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = weights_to_bytes(&self.weights);
        bytes.extend(self.predictor.to_bytes());
        let mut encoder = Encoder::new(&self.tables);
        let same = self.lists.code_all(&mut encoder, self.shape.vocab, self.longest());
        assert!(same.is_ok(), "the lists do not survive coding");
        bytes.extend(encoder.finish());
        bytes
    }

    /// Decodes a model, or returns why the bytes are invalid.
    pub(crate) fn from_bytes(bytes: &[u8], shape: RowShape) -> Result<Self, PackError> {
        if !fits(shape) {
            return Err(PackError::Vocabulary { vocab_size: shape.vocab });
        }
        let (weights, bytes) = weights_from_bytes(bytes, TABLES + FLAGS)?;
        let (predictor, bytes) = Predictor::from_bytes(bytes, shape.atoms)?;
        let (lists, tables) = (ContextModel::default(), Tables::default());
        let mut model = Self { shape, lists, predictor, weights: Vec::new(), tables };
        model.set_weights(weights);
        let mut decoder = Decoder::new(&model.tables, bytes)?;
        let lists = model.lists.code_all(&mut decoder, shape.vocab, model.longest())?;
        decoder.finish()?;
        model.lists = lists;
        Ok(model)
    }

    /// Sets the weights and builds the tables from them.
    fn set_weights(&mut self, weights: Vec<Vec<u8>>) {
        self.tables = Tables::new(&weights, &symbols());
        self.weights = weights;
    }
}

/// Whether ranks can be coded as numbers, and the count as a u16 if all classes are kept.
fn fits(shape: RowShape) -> bool {
    shape.vocab <= if shape.counts == CountMode::Dense { u32::from(u16::MAX) } else { MAX_VOCAB }
}

/// Number of symbols of each table.
fn symbols() -> Vec<usize> {
    let lists = (0..context_model::TABLES).map(context_model::symbols);
    lists.chain([NUMBER_SYMBOLS; TABLES - context_model::TABLES]).collect()
}

/// Fits the prediction of log_z and of the tail.
fn predictor<'a>(shape: RowShape, samples: impl Iterator<Item = (Inputs<'a>, &'a CodedRows)>) -> Predictor {
    let mut fit = PredictorFit::new(shape.atoms);
    for (_, rows) in samples {
        let mut start = 0;
        for (at, &count) in rows.counts.iter().enumerate() {
            let range = start..start + usize::from(count);
            start = range.end;
            let features = Features::new(rows.entries(at, range), shape.codes);
            if let Some(features) = rows.summary(at, shape.atoms).features(features, shape.atoms) {
                fit.add(&features);
            }
        }
    }
    fit.finish()
}

/// All positions, sorted by token and otherwise in their original order.
fn by_token<'a>(
    codes: ValueCode,
    samples: impl Iterator<Item = (Inputs<'a>, &'a CodedRows)>,
) -> Vec<ObservedPosition<'a>> {
    let mut all = Vec::new();
    for (inputs, rows) in samples {
        let mut start = 0;
        for (&token, &count) in inputs.tokens.iter().zip(&rows.counts) {
            let range = start..start + usize::from(count);
            start = range.end;
            let (class_ids, values) = (&rows.class_ids[range.clone()], &rows.codes[range]);
            let top = values.iter().map(|&code| codes.coarse(code)).max().unwrap_or(0);
            all.push(ObservedPosition { token, top, class_ids, codes: values });
        }
    }
    all.sort_by_key(|seen| seen.token);
    all
}

/// Collects the statistics of classes and of the classes that follow each token.
fn survey<'a>(shape: RowShape, samples: impl Iterator<Item = (Inputs<'a>, &'a CodedRows)>) -> ContextModel {
    let RowShape { vocab, counts, codes, .. } = shape;
    let positions = by_token(codes, samples);
    let mut tally = ClassCounts::new(vocab);
    positions.iter().for_each(|seen| tally.add(seen, codes));
    let class = |id| {
        let (count, height) = tally.take(id);
        Class {
            freq_class: count.checked_ilog2().map_or(0, |log| log as u8 + 1),
            height: if count == 0 { 0 } else { level(height) },
        }
    };
    let mut lists = ContextModel::new((0..vocab).map(class).collect());
    tally.touched.clear();
    if counts == CountMode::Dense {
        return lists;
    }
    let tokens: Vec<&[ObservedPosition]> = positions.chunk_by(|a, b| a.token == b.token).collect();
    let (rare, freq_class): (Vec<&[ObservedPosition]>, Vec<&[ObservedPosition]>) =
        tokens.into_iter().partition(|seen| (seen.len() as u32) < MIN_POSITIONS || seen[0].token >= vocab);
    lists.lists[0] = list(&mut tally, &lists, &rare, codes);
    let mut room = MAX_CANDIDATES.saturating_sub(lists.lists[0].candidates.len());
    for seen in freq_class {
        let list = list(&mut tally, &lists, &[seen], codes);
        if list.candidates.len() > room {
            break;
        }
        room -= list.candidates.len();
        lists.list_of[seen[0].token as usize] = lists.lists.len() as u32;
        lists.lists.push(list);
    }
    lists
}

/// Selects the candidates from these positions.
fn list(
    tally: &mut ClassCounts,
    lists: &ContextModel,
    positions: &[&[ObservedPosition]],
    codes: ValueCode,
) -> CandidateList {
    let all = positions.iter().copied().flatten();
    all.clone().for_each(|seen| tally.add(seen, codes));
    let (count, tops) = all.fold((0, 0), |(count, tops), seen| (count + 1, tops + u64::from(seen.top)));
    let mut candidates = Vec::new();
    for id in std::mem::take(&mut tally.touched) {
        let (kept, height) = tally.take(id);
        if kept >= MIN_POSITIONS && u64::from(kept) * 64 >= MIN_SHARE * count {
            let share = share_level(u64::from(kept), count);
            candidates.push(Candidate { rank: lists.rank_of(id), share, height: level(height) });
        }
    }
    candidates.sort_unstable_by_key(|candidate| candidate.rank);
    CandidateList { top: top_level((tops / count.max(1)) as u32), candidates }
}
