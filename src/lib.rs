//! An MCP server that turns a prompt into an image and hands back a URL.
//!
//! # Layout
//!
//! | room | what is in it |
//! |---|---|
//! | [`stack`] | the service stack, outermost first: read this to know the server |
//! | [`serve`] | accept loop, connection limits, graceful drain |
//! | [`app`] | configuration to built parts and background tasks |
//! | [`config`], [`cli`], [`telemetry`], [`metrics`] | the edges of the process |
//! | [`mcp`], [`api`], [`request`] | the doors to the pipeline, and what they read alike |
//! | [`generate`] | the pipeline: validate, admit, predict, inspect, store |
//! | [`admission`] | who may work now, and who waits: fair to clients |
//! | [`predictor`] | who draws |
//! | [`storage`], [`cleaner`] | where images live, and how they go |
//! | [`admin`] | what operators do to a store from the command line |
//! | [`images`] | delivery over HTTP |
//! | [`gallery`] | the web page |
//! | [`image`] | what an image is; pure |
//! | [`rescue`], [`problem`], [`health`] | what went wrong, and how it stands |

pub mod admin;
pub mod admission;
pub mod api;
pub mod app;
pub mod banner;
pub mod cleaner;
pub mod cli;
pub mod config;
pub mod gallery;
pub mod generate;
pub mod health;
pub mod image;
pub mod images;
pub mod mcp;
pub mod metrics;
pub mod predictor;
pub mod problem;
pub mod request;
pub mod rescue;
pub mod secret;
pub mod serve;
pub mod stack;
pub mod storage;
pub mod telemetry;
