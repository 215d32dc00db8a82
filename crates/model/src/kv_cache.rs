//! What a model keeps of the tokens that it has processed, for generation one token at a time.

use burn::tensor::{Device, Int, Tensor, TensorData};

/// What a layer without attention keeps of a text, whatever its length: each tensor has a row for each text.
pub(crate) type State = Vec<Tensor<4>>;

/// What a layer keeps of previous tokens.
#[derive(Clone, Debug, Default)]
pub(crate) enum LayerCache {
    /// Nothing, before the first token.
    #[default]
    Empty,
    /// Keys and values of attention, \[rows, heads, columns, head_dim\]. A layer with a window keeps only the columns
    /// that it still sees.
    KeysAndValues(Box<[Tensor<4>; 2]>),
    /// Of another layer.
    State(State),
}

impl LayerCache {
    /// The state of a layer without attention; none before the first token.
    pub(crate) fn state(&mut self) -> &mut State {
        if !matches!(self, Self::State(_)) {
            *self = Self::State(State::new());
        }
        match self {
            Self::State(state) => state,
            Self::Empty | Self::KeysAndValues(..) => unreachable!("it was just set"),
        }
    }

    fn rows(&self) -> Option<usize> {
        match self {
            Self::Empty => None,
            Self::KeysAndValues(both) => Some(both[0].dims()[0]),
            Self::State(state) => state.first().map(|x| x.dims()[0]),
        }
    }

    /// The rows of several caches of one layer, in their order.
    fn stack(parts: &[&Self]) -> Self {
        let (mut keys, mut values, mut states) = (Vec::new(), Vec::new(), Vec::new());
        for part in parts {
            match part {
                Self::Empty => {}
                Self::KeysAndValues(both) => {
                    keys.push(both[0].clone());
                    values.push(both[1].clone());
                }
                Self::State(state) => states.push(state.clone()),
            }
        }
        if let Some(first) = states.first() {
            let tensor = |at: usize| Tensor::cat(states.iter().map(|state| state[at].clone()).collect(), 0);
            return Self::State((0..first.len()).map(tensor).collect());
        }
        let Some(width) = keys.iter().map(|k| k.dims()[2]).max() else { return Self::Empty };
        let stacked = |x: Vec<Tensor<4>>| Tensor::cat(x.into_iter().map(|x| widened(x, width)).collect(), 0);
        Self::KeysAndValues(Box::new([keys, values].map(stacked)))
    }

    /// The given rows, with at most the last `columns` of keys and values.
    fn keep(&mut self, rows: &Tensor<1, Int>, columns: usize) {
        match self {
            Self::Empty => {}
            Self::KeysAndValues(both) => {
                for x in both.iter_mut() {
                    *x = last_columns(x.clone(), columns).select(0, rows.clone());
                }
            }
            Self::State(state) => state.iter_mut().for_each(|x| *x = x.clone().select(0, rows.clone())),
        }
    }
}

/// What layers keep of the texts that a model has read, one text per row. The last tokens of all rows are in one column,
/// so that the next ones are, too: rows of shorter texts have padding before their first token, which no query sees.
#[derive(Clone, Debug, Default)]
pub struct KvCache {
    layers: Vec<LayerCache>,
    /// Number of columns, those included that a layer with a window no longer keeps.
    columns: usize,
    /// Columns before the first token of each row; empty if no row has any.
    padding: Vec<usize>,
}

impl KvCache {
    /// The cache of texts of these lengths, the longest of which fills all columns.
    pub(crate) fn of(layers: Vec<LayerCache>, lengths: &[usize]) -> Self {
        let columns = lengths.iter().copied().max().unwrap_or(0);
        let padding = lengths.iter().map(|length| columns - length).collect();
        Self { layers, columns, padding }.without_needless_padding()
    }

    /// The rows of several caches of one model, in their order.
    pub fn stack(caches: Vec<Self>) -> Self {
        let columns = caches.iter().map(|cache| cache.columns).max().unwrap_or(0);
        let padding_of = |cache: &Self| {
            let more = columns - cache.columns;
            (0..cache.rows()).map(|row| more + cache.padding_of(row)).collect::<Vec<_>>()
        };
        let padding = caches.iter().flat_map(padding_of).collect();
        let count = caches.first().map_or(0, |cache| cache.layers.len());
        let layer =
            |index: usize| LayerCache::stack(&caches.iter().map(|cache| &cache.layers[index]).collect::<Vec<_>>());
        Self { layers: (0..count).map(layer).collect(), columns, padding }.without_needless_padding()
    }

    /// Keeps only the given rows (texts that are not finished), in their order.
    pub fn keep(&mut self, rows: &[usize], device: &Device) {
        if !self.padding.is_empty() {
            self.padding = rows.iter().map(|&row| self.padding[row]).collect();
        }
        // Columns that are padding in every row that is left.
        let unused = self.padding.iter().copied().min().unwrap_or(0);
        self.columns -= unused;
        self.padding.iter_mut().for_each(|padding| *padding -= unused);
        let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
        let count = rows.len();
        let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [count]), device);
        self.layers.iter_mut().for_each(|layer| layer.keep(&rows, self.columns));
        self.forget_needless_padding();
    }

    /// Starts the next token of a model with this many layers. Returns the number of columns before it, how many of
    /// them are padding in each row (nothing if there is no padding), and what each layer keeps.
    pub(crate) fn next_token(&mut self, layers: usize) -> (usize, &[usize], &mut [LayerCache]) {
        self.layers.resize(layers, LayerCache::Empty);
        let before = self.columns;
        self.columns += 1;
        (before, &self.padding, &mut self.layers)
    }

    fn rows(&self) -> usize {
        self.layers.iter().find_map(LayerCache::rows).unwrap_or(0)
    }

    fn padding_of(&self, row: usize) -> usize {
        self.padding.get(row).copied().unwrap_or(0)
    }

    fn without_needless_padding(mut self) -> Self {
        self.forget_needless_padding();
        self
    }

    fn forget_needless_padding(&mut self) {
        if self.padding.iter().all(|&padding| padding == 0) {
            self.padding.clear();
        }
    }
}

/// The last columns of keys or values, \[rows, heads, columns, head_dim\], or all of them if there are no more.
pub(crate) fn last_columns(x: Tensor<4>, count: usize) -> Tensor<4> {
    let columns = x.dims()[2];
    match count < columns {
        true => x.narrow(2, columns - count, count),
        false => x,
    }
}

/// The same with zeros before the first column, up to this many columns.
fn widened(x: Tensor<4>, width: usize) -> Tensor<4> {
    let [rows, heads, columns, head_dim] = x.dims();
    if columns == width {
        return x;
    }
    let zeros = Tensor::<4>::zeros([rows, heads, width - columns, head_dim], &x.device()).cast(x.dtype());
    Tensor::cat(vec![zeros, x], 2)
}
