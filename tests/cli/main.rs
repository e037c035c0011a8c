//! Tests of the `towline` program and of the project's own rules.

mod dependencies;
mod layers;
mod media;
mod site;
