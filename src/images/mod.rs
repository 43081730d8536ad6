//! HTTP delivery of stored images.
