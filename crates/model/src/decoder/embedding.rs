//! The way from tokens to the residual stream.

use super::linear::Linear;
use super::shape::{EMBEDDING, POSITIONS, PROJECT_IN, Shape};
use crate::parameters::{ParameterBuilder, StoredParameter};
use crate::sequences::Sequences;
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::module::embedding;
use burn::tensor::{DType, Int, Tensor, TensorData};

/// The embedding of tokens, and that of positions if they are learned.
#[derive(Module, Debug)]
pub(super) struct Embedding {
    tokens: Param<Tensor<2>>,
    project: Option<Linear>,
    positions: Option<Param<Tensor<2>>>,
    #[module(skip)]
    scale: f64,
    /// The row of the first position.
    #[module(skip)]
    first: usize,
    /// Number format of the output, in which the tables need not be.
    #[module(skip)]
    dtype: DType,
}

impl Embedding {
    /// The embeddings of a model.
    pub(super) fn build<E>(parameters: &mut ParameterBuilder<'_, E>, shape: &Shape) -> Result<Self, E> {
        let is_projected = shape.embedding.size != shape.hidden_size;
        Ok(Self {
            tokens: parameters.plain(EMBEDDING)?,
            project: is_projected.then(|| Linear::build(parameters, PROJECT_IN, false)).transpose()?,
            positions: shape.embedding.positions.map(|_| parameters.plain(POSITIONS)).transpose()?,
            scale: shape.embedding.scale,
            first: shape.embedding.positions.map_or(0, |(_, first)| first),
            dtype: parameters.dtype(),
        })
    }

    /// The same with its output in `dtype`, to which `cast` casts parameters. The tables stay as they are: the gradient
    /// of a row is a sum over all places of its token, in which half precision would lose most of the addends.
    pub(super) fn computing_in(self, dtype: DType, cast: &mut impl ModuleMapper) -> Self {
        Self { project: Module::map(self.project, cast), dtype, ..self }
    }

    /// Number format of the output.
    pub(super) fn dtype(&self) -> DType {
        self.dtype
    }

    /// The embedding of tokens, which can also be the head: \[vocabulary, width\].
    pub(super) fn tokens(&self) -> &Param<Tensor<2>> {
        &self.tokens
    }

    /// Whether one of its parameters is trained.
    pub(super) fn is_trained(&self) -> bool {
        let tables = [Some(&self.tokens), self.positions.as_ref()];
        tables.into_iter().flatten().any(|table| table.is_require_grad())
            || self.project.as_ref().is_some_and(Linear::is_trained)
    }

    /// tokens: \[rows, width\]; output: \[rows, width, hidden\].
    pub(super) fn forward(&self, tokens: Tensor<2, Int>, sequences: &Sequences) -> Tensor<3> {
        self.at(tokens, || match sequences.are_rows() {
            true => sequences.positions_of_rows().collect(),
            false => sequences.positions().collect(),
        })
    }

    /// The same of one token in each row, \[rows\], at these positions, or at one position of all rows.
    pub(super) fn step(&self, tokens: Tensor<1, Int>, positions: &[usize]) -> Tensor<3> {
        self.at(tokens.unsqueeze_dim(1), || positions.to_vec())
    }

    /// `positions` returns those of all tokens of a row, or of all rows if they differ.
    fn at(&self, tokens: Tensor<2, Int>, positions: impl FnOnce() -> Vec<usize>) -> Tensor<3> {
        let [rows, width] = tokens.dims();
        let device = tokens.device();
        let mut x = embedding(self.tokens.val(), tokens).cast(self.dtype);
        if self.scale != 1.0 {
            x = x * self.scale;
        }
        if let Some(project) = &self.project {
            let size = x.dims()[2];
            let projected = project.forward(x.reshape([rows * width, size]));
            let d = projected.dims()[1];
            x = projected.reshape([rows, width, d]);
        }
        if let Some(table) = &self.positions {
            let places: Vec<i64> = positions().into_iter().map(|position| (position + self.first) as i64).collect();
            let shape = [places.len() / width.max(1), width];
            let places = Tensor::<2, Int>::from_data(TensorData::new(places, shape), &device);
            x = x + embedding(table.val(), places).cast(self.dtype);
        }
        x
    }

    /// Its parameters with their names.
    pub(super) fn named(&self) -> Vec<(String, StoredParameter<'_>)> {
        let mut all = vec![(EMBEDDING.to_owned(), StoredParameter::Plain(&self.tokens))];
        all.extend(self.project.iter().flat_map(|project| project.named(PROJECT_IN)));
        all.extend(self.positions.iter().map(|table| (POSITIONS.to_owned(), StoredParameter::Plain(table))));
        all
    }
}
