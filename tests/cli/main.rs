//! Tests of the `towline` program and of the project's own rules.

mod closed_pipe;
mod dependencies;
mod layers;
mod media;
mod site;
