//! Conversion of parameters between a model's own tensors and values in Hugging Face's layout.

use burn::module::Param;
use burn::tensor::{DType, Device, Element, Tensor, TensorData};
use half::{bf16, f16};
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
    pub fn values(&self) -> Vec<f32> {
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

/// Returns the f32 values of the parameter with a name and a shape in Hugging Face's layout, in row-major order.
pub(crate) type Values<'a, E> = &'a mut dyn FnMut(&str, &[usize]) -> Result<Vec<f32>, E>;

/// Creates parameters from values by the decoder's names.
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

    /// The number format of the parameters.
    pub(crate) fn dtype(&self) -> DType {
        self.dtype
    }

    fn data(&mut self, name: &str) -> Result<(Vec<f32>, Vec<usize>), E> {
        let Some(shape) = self.shapes.get(name) else { unreachable!("`tensors` names all that is asked for: {name}") };
        Ok(((self.values)(name, shape)?, shape.clone()))
    }

    /// A parameter, transposed or not. Beside the values in f32 there is only the parameter itself.
    fn parameter<const D: usize>(
        &self,
        (values, shape): (Vec<f32>, Vec<usize>),
        is_transposed: bool,
    ) -> Param<Tensor<D>> {
        let data = match self.dtype {
            DType::F16 => arranged(values, shape, is_transposed, f16::from_f32),
            DType::BF16 => arranged(values, shape, is_transposed, bf16::from_f32),
            _ => arranged(values, shape, is_transposed, |value| value),
        };
        Param::from_tensor(Tensor::from_data(data, (self.device, self.dtype)))
    }

    /// A matrix in Hugging Face's layout.
    pub(crate) fn plain(&mut self, name: &str) -> Result<Param<Tensor<2>>, E> {
        let data = self.data(name)?;
        Ok(self.parameter(data, false))
    }

    /// The transpose of a matrix in Hugging Face's layout: \[in, out\] of a linear layer's \[out, in\].
    pub(crate) fn transposed(&mut self, name: &str) -> Result<Param<Tensor<2>>, E> {
        let data = self.data(name)?;
        Ok(self.parameter(data, true))
    }

    /// A vector.
    pub(crate) fn vector(&mut self, name: &str) -> Result<Param<Tensor<1>>, E> {
        let data = self.data(name)?;
        Ok(self.parameter(data, false))
    }
}

/// A tensor's data in the precision of `round`, transposed or not.
fn arranged<T: Element>(
    values: Vec<f32>,
    shape: Vec<usize>,
    is_transposed: bool,
    round: impl Fn(f32) -> T,
) -> TensorData {
    match is_transposed {
        true => TensorData::new(transposed(&values, shape[0], shape[1], round), vec![shape[1], shape[0]]),
        // For f32 this reuses the memory.
        false => TensorData::new(values.into_iter().map(round).collect::<Vec<T>>(), shape),
    }
}

/// The transpose of a row-major matrix, rounded. It is made in square tiles, whose lines stay in the processor's cache.
fn transposed<T: Copy + Default>(values: &[f32], rows: usize, columns: usize, round: impl Fn(f32) -> T) -> Vec<T> {
    const TILE: usize = 32;
    let mut out = vec![T::default(); values.len()];
    for (top, left) in (0..rows).step_by(TILE).flat_map(|top| (0..columns).step_by(TILE).map(move |left| (top, left))) {
        for c in left..columns.min(left + TILE) {
            for r in top..rows.min(top + TILE) {
                out[c * rows + r] = round(values[r * columns + c]);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::transposed;

    #[test]
    fn tiles_make_the_whole_transpose() {
        for (rows, columns) in [(1, 1), (1, 70), (70, 1), (32, 64), (33, 65), (100, 31)] {
            let values: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
            let out = transposed(&values, rows, columns, |value| value as u32);
            let is_right = |i: usize| out[i % columns * rows + i / columns] == i as u32;
            assert!((0..rows * columns).all(is_right), "{rows} x {columns}");
        }
    }
}
