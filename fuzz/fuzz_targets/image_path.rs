//! An image's path, id and listing query, as a client writes them.
//!
//! Invariants: an id that parses has one spelling; a file name leads back to the id and format that
//! made it; a listing's limit is within its bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_image_server::{
    image::{Format, ImageId},
    images::{Route, parse_query},
};

fuzz_target!(|text: &str| {
    if let Ok(id) = text.parse::<ImageId>() {
        assert_eq!(id.to_string(), text);
        assert_eq!(id.bucket().len(), 7);
        for format in Format::ALL {
            let named = Route::of(&format!("/images/{id}.{}", format.extension()));
            assert_eq!(named, Route::Image { id, format: Some(format) });
        }
    }
    if let Route::Image { id, format } = Route::of(text) {
        let canonical = match format {
            Some(format) => format!("/images/{id}.{}", format.extension()),
            None => format!("/images/{id}"),
        };
        assert_eq!(canonical, text, "an image has one path a format");
    }
    if let Ok(query) = parse_query(Some(text)) {
        assert!((1..=1000).contains(&query.limit));
    }
});
