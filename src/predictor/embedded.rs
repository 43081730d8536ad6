//! The embedded predictor: a procedural artist.
