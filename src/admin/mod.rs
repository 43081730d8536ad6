//! What operators do to a store from the command line: look, delete, verify, migrate.
//!
//! Results go to standard output, as text or as JSON, one value a line; progress goes to standard
//! error, and only where that is a terminal.

mod check;
mod images;
mod migrate;
mod output;
mod progress;
mod table;

use std::io;

pub use self::{
    images::{ImagesCommand, run as images},
    migrate::{Migrated, run as migrate},
    output::Output,
};
use crate::storage;

/// Why a command did not end well. What was found is on standard output already.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed.
    #[error("{}", chain(.0))]
    Storage(#[from] storage::Error),
    /// The records failed.
    #[error("{}", chain(.0))]
    Records(#[from] storage::RecordError),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// Some of the images that were named are not there.
    #[error("{absent} of {named} images are not there")]
    Absent {
        /// How many are not there.
        absent: u64,
        /// How many were named.
        named: u64,
    },
    /// Some images are not as they were saved, or could not be read.
    #[error("of {looked_at} images {damaged} are damaged and {failed} could not be read")]
    Damaged {
        /// Images that were looked at.
        looked_at: u64,
        /// Images that are not what was saved.
        damaged: u64,
        /// Images that the backend did not give.
        failed: u64,
    },
    /// A migration left something behind; it may be run again.
    #[error("{failed} images could not be copied; run it again to go on")]
    Incomplete {
        /// How many.
        failed: u64,
    },
    /// A migration met too many failures.
    #[error("{failed} images could not be copied, so this was given up; run it again to go on")]
    GivenUp {
        /// How many.
        failed: u64,
    },
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Some errors print their cause themselves.
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
