//! Simulation, statistics, figures and reports that set the theory of factual
//! recall in one-layer transformers beside experiment.
//!
//! Data flow in one direction:
//! spec -> jobs -> measurements -> thresholds -> fits -> verdicts -> report.

pub mod baseline;
pub mod claims;
pub mod cli;
pub mod clock;
pub mod decode;
pub mod descent;
pub mod embedding;
pub mod experiment;
pub mod figure;
mod files;
pub mod job;
mod keystream;
pub mod linalg;
pub mod mutate;
pub mod progress;
pub mod replay;
pub mod report;
pub mod reproduce;
pub mod rerun;
pub mod rng;
pub mod runner;
pub mod simd;
pub mod spec;
pub mod stats;
pub mod store;
pub mod study;
pub mod task;
