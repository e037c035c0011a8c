//! Recoveries in adverse conditions: one file per promise, minutes each. `make test-all` runs them, one at a time.
//!
//! Each ends with the host started from its new disk, where every file is what it was before the backup.

mod backups_away;
mod codes;
mod drill_restores;
mod host;
mod kexec;
mod little_memory;
mod live_system;
mod newer_rear;
mod older_session;
mod other_disks;
mod personal_image;
mod power_cut;
mod server_restarts;
mod target_layer;
