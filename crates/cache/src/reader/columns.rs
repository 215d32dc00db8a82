//! Cached samples as the columns of the plain layout, whatever layout the cache has.

use super::CacheReader;
use crate::codec;
use crate::error::{Error, Result};
use crate::plan::{Layout, Plan};
use crate::row_group::CachedSample;
use crate::schema;
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

impl CacheReader {
    /// The columns that [`Self::plain_batch`] gives: those of a plain shard, with the extra columns that this reader was
    /// asked for.
    pub fn plain_schema(&self) -> SchemaRef {
        schema::columns(&self.plain_plan())
    }

    /// The samples as columns, one row for each.
    ///
    /// # Errors
    /// [`Error::Parquet`] if the columns cannot be built, for example because a list has more than 2^31 items.
    pub fn plain_batch(&self, samples: Vec<CachedSample>) -> Result<RecordBatch> {
        let rows: Vec<codec::Row> = samples.into_iter().map(|cached| (cached.sample, cached.rows)).collect();
        let batch = codec::to_batch(&self.plain_plan(), &rows, None, true);
        batch.map_err(|reason| Error::Parquet { path: self.folder().to_owned(), reason })
    }

    fn plain_plan(&self) -> Plan {
        Plan { layout: Layout::Plain, extras: self.extras.to_vec(), ..self.plan().clone() }
    }
}
