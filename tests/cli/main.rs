//! Tests of the `towline` program and of the project's own rules.

mod dependencies;
mod fetching;
mod hidden_answers;
mod layers;
mod media;
mod output;
mod site;
