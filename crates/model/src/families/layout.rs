//! How the files of a family hold the parameters of the decoder.
//!
//! Both are matrices of rows, and each row of a parameter is a row of one tensor: a tensor may have another name, hold
//! several parameters (fused projections), hold their rows in another order (heads whose rotary pairs are neighbours),
//! or be stored as the transpose. The same description serves reading and writing.

use super::rotary_pairs::RotaryPairs;
use crate::decoder::{AttentionShape, FeedForwardShape, HEAD, LayerShape, Named, Shape, in_layer};
use std::collections::BTreeMap;
use std::ops::Range;

/// The table of a family: names of tensors in its files, where they differ from the decoder's.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Names {
    /// Names of the tensors outside layers, without `.weight` and `.bias`.
    pub(super) outside: &'static [(&'static str, &'static str)],
    /// What the names of a layer's tensors begin with, if it is not `model.layers.`.
    pub(super) layers: Option<&'static str>,
    /// Names within a layer, and how parameters lie in the tensor.
    pub(super) parts: &'static [(&'static str, &'static str, Rows)],
}

/// How the rows of a parameter lie in a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    /// They are the tensor's rows.
    Whole,
    /// They are the tensor's columns (GPT-2's `Conv1D`).
    Columns,
    /// The tensor has all queries, all keys, then all values; or the gate, then the up-projection.
    Fused,
    /// The same, and they are the tensor's columns.
    FusedColumns,
    /// The tensor has for each key head the queries of its group, its key and its value.
    FusedByGroup,
    /// The tensor has for each head its query and its gate.
    FusedByHead,
    /// They are the filters of channels, with an axis of one between the tensor's two.
    Filters,
    /// Each head has a tensor of its own, whose name ends in its number.
    TensorPerHead,
    /// The vector of each head is a row of the tensor.
    RowPerHead,
    /// The tensor has a matrix for each expert: that of its gate and up-projection one after the other, or that of its
    /// down-projection.
    Experts,
    /// The same, where parameters are the columns of a matrix, and those of gate and up-projection alternate. Names end
    /// without `.weight`, and in `_bias` instead of `.bias`.
    ExpertsByColumns,
}

/// A tensor of a family's files.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FileTensor {
    /// Its name.
    pub(crate) name: String,
    /// Its shape.
    pub(crate) shape: Vec<usize>,
    /// Number of matrices or vectors in it.
    pub(crate) matrices: usize,
    /// Whether the rows of parameters are columns of its matrices.
    pub(crate) is_transposed: bool,
    /// Which rows it holds of which parameters.
    pub(crate) parts: Vec<Part>,
}

/// Some rows of a parameter, and where they are in a tensor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    /// The parameter's name.
    pub(crate) parameter: String,
    /// Its first row that is in the tensor.
    pub(crate) first: usize,
    /// The tensor's rows of it, in its order.
    pub(crate) rows: Vec<Range<usize>>,
}

/// Consecutive rows as one range: a model of many experts has millions of rows.
fn ranges(rows: impl IntoIterator<Item = usize>) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for row in rows {
        match ranges.last_mut() {
            Some(last) if last.end == row => last.end += 1,
            _ => ranges.push(row..row + 1),
        }
    }
    ranges
}

impl FileTensor {
    /// Whether it is a parameter as it stands.
    pub(crate) fn is_whole_parameter(&self) -> bool {
        let is_whole = |part: &Part| part.first == 0 && matches!(&part.rows[..], [rows] if rows.start == 0);
        !self.is_transposed && self.parts.len() == 1 && is_whole(&self.parts[0])
    }

    /// Number of rows of parameters in it, and of values in each.
    fn rows_and_columns(&self) -> (usize, usize) {
        let rows = self.parts.iter().flat_map(|part| &part.rows).map(Range::len).sum::<usize>();
        (rows, self.shape.iter().product::<usize>() / rows.max(1))
    }

    /// Index of the first value of a row, number of values in it, and distance from one to the next.
    fn row(&self, row: usize) -> (usize, usize, usize) {
        let (height, width) = self.rows_and_columns();
        match self.is_transposed {
            false => (row * width, width, 1),
            true => {
                let height = height / self.matrices;
                (row / height * height * width + row % height, width, height)
            }
        }
    }

    /// Appends its rows of a parameter to `out`. `values` are the tensor's, row-major.
    pub(crate) fn take(&self, parameter: &str, values: &[f32], out: &mut Vec<f32>) {
        for part in self.parts.iter().filter(|part| part.parameter == parameter) {
            for row in part.rows.iter().cloned().flatten() {
                let (first, width, step) = self.row(row);
                out.extend(values[first..].iter().step_by(step).take(width));
            }
        }
    }

    /// Its values, row-major, from those of its parameters, which `values_of` returns.
    pub(crate) fn assembled(&self, mut values_of: impl FnMut(&str) -> Vec<f32>) -> Vec<f32> {
        if self.is_whole_parameter() {
            return values_of(&self.parts[0].parameter);
        }
        let (height, width) = self.rows_and_columns();
        let mut out = vec![0.0; height * width];
        for part in &self.parts {
            let values = values_of(&part.parameter);
            let rows = part.rows.iter().cloned().flatten();
            for (values, row) in values[part.first * width..].chunks_exact(width).zip(rows) {
                let (first, _, step) = self.row(row);
                out[first..].iter_mut().step_by(step).zip(values).for_each(|(out, value)| *out = *value);
            }
        }
        out
    }
}

/// All tensors of a model's files.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layout {
    tensors: Vec<FileTensor>,
    /// Index of each tensor by its name.
    places: BTreeMap<String, usize>,
    /// The tensors that hold a part of each parameter, in the order of its rows.
    holders: BTreeMap<String, Vec<usize>>,
}

impl Layout {
    /// The layout of a family with these names and pairs for a model of this shape.
    pub(super) fn new(shape: &Shape, names: &Names, pairs: RotaryPairs) -> Self {
        let mut layout = Self::default();
        let [before, behind] = shape.outside_layers();
        before.into_iter().for_each(|parameter| layout.add_outside(names, parameter, shape));
        for (index, layer) in shape.layers.iter().enumerate() {
            let head_dim = layer.mixer.attention().map_or(0, |attention| attention.heads.head_dim);
            let order = pairs.order(head_dim);
            for parameter in layer.parameters(shape.hidden_size) {
                layout.add_in_layer(names, (index, layer), parameter, &order);
            }
        }
        behind.into_iter().for_each(|parameter| layout.add_outside(names, parameter, shape));
        layout
    }

    /// Every tensor, in the order of the parameters.
    pub(crate) fn tensors(&self) -> &[FileTensor] {
        &self.tensors
    }

    /// The tensors with a part of this parameter, in the order of its rows.
    pub(crate) fn holders(&self, parameter: &str) -> impl Iterator<Item = &FileTensor> {
        self.holders.get(parameter).into_iter().flatten().map(|&index| &self.tensors[index])
    }

    fn add_outside(&mut self, names: &Names, (parameter, size): Named, shape: &Shape) {
        let (part, kind) = parameter.rsplit_once('.').unwrap_or((&parameter, ""));
        let name = names.outside.iter().find(|(ours, _)| *ours == part).map_or(part, |(_, theirs)| theirs);
        if parameter == HEAD && shape.head.has_bias {
            // Its weights are columns here, and its bias is the last row.
            let (rows, classes) = (size[0] - 1, size[1]);
            self.add(format!("{name}.weight"), (&parameter, 0), (0..rows).collect(), (vec![classes, rows], true));
            self.add(format!("{name}.bias"), (&parameter, rows), vec![0], (vec![classes], false));
            return;
        }
        self.add(format!("{name}.{kind}"), (&parameter, 0), (0..size[0]).collect(), (size, false));
    }

    fn add_in_layer(
        &mut self,
        names: &Names,
        (index, layer): (usize, &LayerShape),
        (parameter, size): Named,
        order: &[usize],
    ) {
        let (part, kind) = parameter.rsplit_once('.').unwrap_or((&parameter, ""));
        let (part, expert) = without_expert(part);
        let line = names.parts.iter().find(|(ours, ..)| *ours == part);
        let (theirs, how) = line.map_or((part.as_str(), Rows::Whole), |(_, theirs, how)| (*theirs, *how));
        let theirs = theirs.replace("{}", &expert.to_string());
        let begin = names.layers.unwrap_or("model.layers.");
        let dot = if kind.is_empty() { "" } else { "." };
        let tensor = |part: &str| format!("{begin}{index}.{part}{dot}{kind}");
        let head_dim = order.len();
        let mut rows = fused_rows(layer, &part, how, size[0]);
        if ["q_proj", "k_proj", "q_norm", "k_norm"].iter().any(|turned| part.ends_with(turned)) {
            rows = (0..rows.len()).map(|row| rows[row - row % head_dim + order[row % head_dim]]).collect();
        }
        let parameter = in_layer(index, &parameter);
        let is_transposed = size.len() == 2 && [Rows::Columns, Rows::FusedColumns].contains(&how);
        match how {
            Rows::TensorPerHead => {
                for (head, rows) in rows.chunks(head_dim).enumerate() {
                    let rows = rows.iter().map(|row| row - head * head_dim).collect();
                    let name = tensor(&format!("{theirs}.{head}"));
                    self.add(name, (&parameter, head * head_dim), rows, (vec![head_dim], false));
                }
            }
            Rows::RowPerHead => {
                let shape = vec![size[0] / head_dim, head_dim];
                self.add(tensor(&theirs), (&parameter, 0), rows, (shape, false));
            }
            Rows::Filters if size.len() == 2 => {
                self.add(tensor(&theirs), (&parameter, 0), rows, (vec![size[0], 1, size[1]], false));
            }
            Rows::Experts | Rows::ExpertsByColumns => {
                self.add_expert((&tensor(&theirs), how), layer, (&parameter, expert), size)
            }
            _ => {
                let mut shape = size;
                if is_transposed {
                    shape.reverse();
                }
                self.add(tensor(&theirs), (&parameter, 0), rows, (shape, is_transposed));
            }
        }
    }

    /// Adds a parameter of an expert to the tensor that holds all experts' one.
    fn add_expert(
        &mut self,
        (name, how): (&str, Rows),
        layer: &LayerShape,
        (parameter, expert): (&str, usize),
        size: Vec<usize>,
    ) {
        let FeedForwardShape::Experts(shape) = &layer.feed_forward else { return };
        let is_by_columns = how == Rows::ExpertsByColumns;
        let name = match is_by_columns {
            true => name.trim_end_matches(".weight").replace(".bias", "_bias"),
            false => name.to_owned(),
        };
        let is_up = parameter.contains(".up_proj.");
        let in_one = if parameter.contains(".down_proj.") { 1 } else { 2 };
        let (rows, height) = (size[0], in_one * size[0]);
        let place = |row| match is_by_columns {
            true => in_one * row + usize::from(is_up),
            false => row + if is_up { rows } else { 0 },
        };
        let rows = (0..rows).map(|row| expert * height + place(row));
        let is_transposed = is_by_columns && size.len() == 2;
        let shape = match size.get(1) {
            None => vec![shape.count, height],
            Some(&width) if is_transposed => vec![shape.count, width, height],
            Some(&width) => vec![shape.count, height, width],
        };
        let matrices = shape[0];
        let index = *self.places.entry(name.clone()).or_insert(self.tensors.len());
        if index == self.tensors.len() {
            self.tensors.push(FileTensor { name, shape, matrices, is_transposed, parts: Vec::new() });
        }
        self.push(index, Part { parameter: parameter.to_owned(), first: 0, rows: ranges(rows) });
    }

    /// Adds rows of a parameter, from row `first` on, to a tensor. If others are in it already, it grows by these.
    fn add(
        &mut self,
        name: String,
        (parameter, first): (&str, usize),
        rows: Vec<usize>,
        (shape, is_transposed): (Vec<usize>, bool),
    ) {
        let index = *self.places.entry(name.clone()).or_insert(self.tensors.len());
        let axis = usize::from(is_transposed);
        match self.tensors.get_mut(index) {
            Some(there) => there.shape[axis] += shape[axis],
            None => self.tensors.push(FileTensor { name, shape, matrices: 1, is_transposed, parts: Vec::new() }),
        }
        self.push(index, Part { parameter: parameter.to_owned(), first, rows: ranges(rows) });
    }

    fn push(&mut self, index: usize, part: Part) {
        self.holders.entry(part.parameter.clone()).or_default().push(index);
        self.tensors[index].parts.push(part);
    }
}

/// The name of a part with `{}` in place of an expert's number, and that number.
fn without_expert(part: &str) -> (String, usize) {
    let found = part.split_once(".experts.").and_then(|(before, rest)| Some((before, rest.split_once('.')?)));
    match found.and_then(|(before, (number, behind))| Some((before, number.parse().ok()?, behind))) {
        Some((before, number, behind)) => (format!("{before}.experts.{{}}.{behind}"), number),
        None => (part.to_owned(), 0),
    }
}

/// The rows of a tensor at which a parameter of `count` rows lies, which is the part of a layer with this name.
fn fused_rows(layer: &LayerShape, part: &str, how: Rows, count: usize) -> Vec<usize> {
    let Some(AttentionShape { heads, .. }) = layer.mixer.attention() else { return (0..count).collect() };
    let ([q, kv], head_dim, group) = (heads.token_sizes(), heads.head_dim, heads.count / heads.kv_count);
    // The place among queries, keys and values: that of its first row, of its first head in a group, and the number of
    // its heads in a group.
    let (first, first_head, in_group) = match part.rsplit_once('.').map(|(_, name)| name) {
        Some("k_proj") => (q, group, 1),
        Some("v_proj") => (q + kv, group + 1, 1),
        Some("up_proj") => (layer.feed_forward.size(), 0, 1),
        _ => (0, 0, group),
    };
    match how {
        Rows::Fused | Rows::FusedColumns => (first..first + count).collect(),
        Rows::FusedByHead => {
            let member = usize::from(part.ends_with("gate_proj"));
            (0..count).map(|row| (2 * (row / head_dim) + member) * head_dim + row % head_dim).collect()
        }
        Rows::FusedByGroup => {
            let place = |row: usize| {
                let (head, dimension) = (row / head_dim, row % head_dim);
                let head = head / in_group * (group + 2) + first_head + head % in_group;
                head * head_dim + dimension
            };
            (0..count).map(place).collect()
        }
        _ => (0..count).collect(),
    }
}
