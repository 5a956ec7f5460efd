//! Prepared graphs that several callers run one after another.

mod cache;

pub(crate) use cache::Cache;
