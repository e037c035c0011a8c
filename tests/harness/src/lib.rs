//! What the tests share: a small signed site served in this process ([`site`]), and a proxy in front of any server that
//! stalls, lies and cuts off as it is told ([`proxy`]). Panics say what a test lacks.

pub mod layer;
pub mod proxy;
pub mod site;
