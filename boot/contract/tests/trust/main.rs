//! What is trusted, and above all what is not: each test is one attack, or one honest mistake, refused.

#![expect(clippy::unwrap_used, reason = "a helper that fails ends its test")]

mod bounds;
mod catalogue;
mod credentials;
mod delegations;
mod events;
mod golden;
mod hosts;
mod layers;
mod openssl;
mod plans;
mod policy;
mod roles;
mod site;
mod stored;
