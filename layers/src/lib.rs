//! Tower layers for an HTTP edge.
