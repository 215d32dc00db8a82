//! Conversion of parameters between a model's own tensors and Hugging Face's names and layout.

use burn::module::Param;
use burn::tensor::{DType, Device, Tensor, TensorData};
use std::collections::HashMap;

/// A parameter on its device, in Hugging Face's layout or transposed.
#[derive(Clone, Copy)]
pub enum StoredParameter<'a> {
    /// A matrix in Hugging Face's layout.
    Plain(&'a Param<Tensor<2>>),
    /// The transpose of a matrix in Hugging Face's layout.
    Transposed(&'a Param<Tensor<2>>),
    /// A vector.
    Vector(&'a Param<Tensor<1>>),
}

impl StoredParameter<'_> {
    /// The id of the parameter among those of its module.
    pub(crate) fn id(&self) -> u64 {
        match self {
            Self::Plain(matrix) | Self::Transposed(matrix) => matrix.id.val(),
            Self::Vector(vector) => vector.id.val(),
        }
    }

    /// The shape in Hugging Face's layout.
    pub fn shape(&self) -> Vec<usize> {
        match self {
            Self::Plain(matrix) => matrix.val().dims().to_vec(),
            Self::Transposed(matrix) => matrix.val().dims().into_iter().rev().collect(),
            Self::Vector(vector) => vector.val().dims().to_vec(),
        }
    }

    /// The values in f32, row-major in Hugging Face's layout.
    pub fn values(self) -> Vec<f32> {
        match self {
            Self::Plain(matrix) => read(matrix.val()),
            Self::Transposed(matrix) => read(matrix.val().swap_dims(0, 1)),
            Self::Vector(vector) => read(vector.val()),
        }
    }
}

/// A tensor's values in f32, row-major.
fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// Returns the f32 values of the parameter with a name and a shape, both Hugging Face's, in row-major order.
pub(crate) type Values<'a, E> = &'a mut dyn FnMut(&str, &[usize]) -> Result<Vec<f32>, E>;

/// Creates parameters from values with Hugging Face's names.
pub(crate) struct ParameterBuilder<'a, E> {
    device: &'a Device,
    dtype: DType,
    shapes: HashMap<String, Vec<usize>>,
    values: Values<'a, E>,
}

impl<'a, E> ParameterBuilder<'a, E> {
    /// Creates a builder of the parameters named in `tensors`, on `device` in `dtype`.
    pub(crate) fn new(
        tensors: Vec<(String, Vec<usize>)>,
        device: &'a Device,
        dtype: DType,
        values: Values<'a, E>,
    ) -> Self {
        Self { device, dtype, shapes: tensors.into_iter().collect(), values }
    }

    fn data(&mut self, name: &str) -> Result<(Vec<f32>, Vec<usize>), E> {
        let Some(shape) = self.shapes.get(name) else { unreachable!("`tensors` names all that is asked for: {name}") };
        Ok(((self.values)(name, shape)?, shape.clone()))
    }

    fn parameter<const D: usize>(&self, (values, shape): (Vec<f32>, Vec<usize>)) -> Param<Tensor<D>> {
        Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), (self.device, self.dtype)))
    }

    /// A matrix in Hugging Face's layout.
    pub(crate) fn plain(&mut self, name: &str) -> Result<Param<Tensor<2>>, E> {
        let data = self.data(name)?;
        Ok(self.parameter(data))
    }

    /// The transpose of a matrix in Hugging Face's layout: \[in, out\] of a linear layer's \[out, in\].
    pub(crate) fn transposed(&mut self, name: &str) -> Result<Param<Tensor<2>>, E> {
        let data = transposed(self.data(name)?);
        Ok(self.parameter(data))
    }

    /// A vector.
    pub(crate) fn vector(&mut self, name: &str) -> Result<Param<Tensor<1>>, E> {
        let data = self.data(name)?;
        Ok(self.parameter(data))
    }
}

/// Transposes a matrix, given as values and shape.
fn transposed((values, shape): (Vec<f32>, Vec<usize>)) -> (Vec<f32>, Vec<usize>) {
    let (rows, columns) = (shape[0], shape[1]);
    let mut out = vec![0f32; rows * columns];
    for (r, row) in values.chunks_exact(columns).enumerate() {
        for (c, &value) in row.iter().enumerate() {
            out[c * rows + r] = value;
        }
    }
    (out, vec![columns, rows])
}
