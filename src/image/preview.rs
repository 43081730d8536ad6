//! A small preview of an image.
