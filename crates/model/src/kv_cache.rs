//! Keys and values of the tokens that a model has processed, for generation one token at a time.

use burn::tensor::{Device, Int, Tensor, TensorData};

/// Keys and values of one layer, \[rows, heads, columns, head_dim\]; none before the first token. A layer with a window
/// keeps only the columns that it still sees.
pub(crate) type LayerCache = Option<(Tensor<4>, Tensor<4>)>;

/// Keys and values of the texts that a model has read, one text per row. The last tokens of all rows are in one column,
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
        let layer = |index: usize| {
            let parts: Vec<_> = caches.iter().filter_map(|cache| cache.layers[index].clone()).collect();
            let width = parts.iter().map(|(k, _)| k.dims()[2]).max()?;
            let (k, v): (Vec<_>, Vec<_>) =
                parts.into_iter().map(|(k, v)| (widened(k, width), widened(v, width))).unzip();
            Some((Tensor::cat(k, 0), Tensor::cat(v, 0)))
        };
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
        for (k, v) in self.layers.iter_mut().flatten() {
            *k = last_columns(k.clone(), self.columns).select(0, rows.clone());
            *v = last_columns(v.clone(), self.columns).select(0, rows.clone());
        }
        self.forget_needless_padding();
    }

    /// Starts the next token of a model with this many layers. Returns the number of columns before it, how many of
    /// them are padding in each row (nothing if there is no padding), and each layer's keys and values.
    pub(crate) fn next_token(&mut self, layers: usize) -> (usize, &[usize], &mut [LayerCache]) {
        self.layers.resize(layers, None);
        let before = self.columns;
        self.columns += 1;
        (before, &self.padding, &mut self.layers)
    }

    fn rows(&self) -> usize {
        self.layers.iter().flatten().next().map_or(0, |(k, _)| k.dims()[0])
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
