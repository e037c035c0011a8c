//! Placing verified layers in the new root.
