//! The REST door to the pipeline.
