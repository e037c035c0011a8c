//! End-to-end tests: one file per promise, each boots a machine in QEMU. `make test` runs them; they need what
//! `make build` makes and the tools of `tests/install-tools`, and are ignored by a plain `cargo test`.

mod boots;
mod clock;
mod drill;
mod flipped_bit;
mod foreign_files;
mod kexec;
mod nightly;
mod read_alike;
mod recovery;
mod refused_plans;
mod resume;
mod stolen_keys;
mod taken_over;
mod world;
