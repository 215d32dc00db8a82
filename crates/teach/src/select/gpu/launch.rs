//! The kernel as an operation of burn.

use super::kernel::summarise_rows;
use super::layout::{HEADER, UNITS};
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
use logitcask_select::SummarySpec;

/// Words of a row's summary.
pub(super) fn words(spec: &SummarySpec) -> usize {
    width(spec.count, spec.always_kept, spec.powers)
}

fn width(count: usize, always_kept: usize, powers: usize) -> usize {
    HEADER + 2 * (count + powers + 1) + always_kept
}

/// The summaries of rows of logits on a CubeCL device: \[rows, [`words`]\]. `ids` holds the label of each
/// row, followed by the ids of the always-kept classes.
pub(super) fn row_summaries(logits: Tensor<2>, ids: Tensor<1, Int>, spec: &SummarySpec) -> Tensor<2, Int> {
    let (low, step) = (spec.grid.0 as f32, spec.grid.1 as f32);
    let (logits, ids) = (logits.into_dispatch(), ids.into_dispatch());
    Tensor::from_dispatch(Dispatch::row_summaries(logits, ids, spec.count, spec.padding, spec.powers, low, step))
}

/// Shape and type of the summaries, which burn has to know before the kernel runs.
fn output_spec(
    logits: &TensorSpec,
    ids: &TensorSpec,
    count: &usize,
    _: &usize,
    powers: &usize,
    _: &f32,
    _: &f32,
) -> TensorSpec {
    let rows = logits.shape[0];
    TensorSpec::new(Shape::from([rows, width(*count, ids.shape[0] - rows, *powers)]), DType::U32)
}

/// Extends burn's backends by our operation.
#[backend_extension(Cube, Fusion)]
pub trait RowSummaries: Backend {
    /// [`row_summaries`] on this backend.
    #[fusion(meta = output_spec)]
    fn row_summaries(
        logits: FloatTensor<Self>,
        ids: IntTensor<Self>,
        count: usize,
        padding: usize,
        powers: usize,
        low: f32,
        step: f32,
    ) -> IntTensor<Self>;
}

impl RowSummaries for CubeBackend {
    fn row_summaries(
        logits: FloatTensor<Self>,
        ids: IntTensor<Self>,
        count: usize,
        padding: usize,
        powers: usize,
        low: f32,
        step: f32,
    ) -> IntTensor<Self> {
        let (logits, ids) = (into_contiguous(logits), into_contiguous(ids));
        let (rows, vocab_size) = (logits.shape()[0], logits.shape()[1]);
        let always_kept = ids.shape()[0] - rows;
        let shape = Shape::from([rows, width(count, always_kept, powers)]);
        let out = empty_device_contiguous_dtype(logits.client.clone(), logits.device.clone(), shape, DType::U32);
        let types: [ElemType; 2] = [logits.dtype, ids.dtype].map(dtype_to_storage_type);
        summarise_rows::launch(
            &out.client,
            calculate_cube_count_elemwise(&out.client, rows, CubeDim::new_single()),
            CubeDim::new_1d(UNITS as u32),
            logits.into_tensor_arg(),
            ids.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            vocab_size as u32,
            (vocab_size - padding) as u32,
            count as u32,
            always_kept as u32,
            low,
            step,
            0,
            powers,
            types,
        );
        out
    }
}
