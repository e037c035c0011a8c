//! What is trusted, and above all what is not: each test is one attack, or one honest mistake, refused.

mod catalogue;
mod golden;
mod layers;
mod plans;
mod site;
