//! Fetching: plan, metadata, manifests and layers.
