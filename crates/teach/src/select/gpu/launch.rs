//! The kernel as an operation of burn.

use super::kernel::{HEAD, UNITS, digest_rows};
use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{DType, Int, Shape, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::{CubeDim, ElemType};

/// What is asked of every row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    /// How many of the largest classes.
    pub(super) count: usize,
    /// How many classes that are kept whatever they are.
    pub(super) fixed: usize,
    /// How many numbers at a row's end are no classes.
    pub(super) padding: usize,
    /// How many sums of powers.
    pub(super) points: usize,
    /// The lowest inverse temperature, and the distance of two.
    pub(super) grid: (f64, f64),
}

impl Ask {
    /// Words that come back of a row.
    pub(super) fn width(&self) -> usize {
        width(self.count, self.fixed, self.points)
    }
}

fn width(count: usize, fixed: usize, points: usize) -> usize {
    HEAD + 2 * (count + points + 1) + fixed
}

/// The digests of rows of logits on a CubeCL device: \[rows, [`Ask::width`]\]. `ids` holds the label of each row, and then
/// the classes that are kept whatever they are.
pub(super) fn digests(logits: Tensor<2>, ids: Tensor<1, Int>, ask: Ask) -> Tensor<2, Int> {
    let (low, step) = (ask.grid.0 as f32, ask.grid.1 as f32);
    let (logits, ids) = (logits.into_dispatch(), ids.into_dispatch());
    Tensor::from_dispatch(Dispatch::digest(logits, ids, ask.count, ask.padding, ask.points, low, step))
}

/// What the digests look like: the whole of it is known before anything runs.
fn spec(
    logits: &TensorSpec,
    ids: &TensorSpec,
    count: &usize,
    _: &usize,
    points: &usize,
    _: &f32,
    _: &f32,
) -> TensorSpec {
    let rows = logits.shape[0];
    TensorSpec::new(Shape::from([rows, width(*count, ids.shape[0] - rows, *points)]), DType::U32)
}

/// burn's door for operations of our own.
#[backend_extension(Cube, Fusion)]
pub trait Digests: Backend {
    /// [`digests`].
    #[fusion(meta = spec)]
    fn digest(
        logits: FloatTensor<Self>,
        ids: IntTensor<Self>,
        count: usize,
        padding: usize,
        points: usize,
        low: f32,
        step: f32,
    ) -> IntTensor<Self>;
}

impl Digests for CubeBackend {
    fn digest(
        logits: FloatTensor<Self>,
        ids: IntTensor<Self>,
        count: usize,
        padding: usize,
        points: usize,
        low: f32,
        step: f32,
    ) -> IntTensor<Self> {
        let (logits, ids) = (into_contiguous(logits), into_contiguous(ids));
        let (rows, vocab_size) = (logits.shape()[0], logits.shape()[1]);
        let fixed = ids.shape()[0] - rows;
        let shape = Shape::from([rows, width(count, fixed, points)]);
        let out = empty_device_contiguous_dtype(logits.client.clone(), logits.device.clone(), shape, DType::U32);
        let types: [ElemType; 2] = [logits.dtype, ids.dtype].map(dtype_to_storage_type);
        digest_rows::launch(
            &out.client,
            calculate_cube_count_elemwise(&out.client, rows, CubeDim::new_single()),
            CubeDim::new_1d(UNITS as u32),
            logits.into_tensor_arg(),
            ids.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            vocab_size as u32,
            (vocab_size - padding) as u32,
            count as u32,
            fixed as u32,
            low,
            step,
            0,
            points,
            types,
        );
        out
    }
}
