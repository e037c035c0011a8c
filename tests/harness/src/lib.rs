//! What the tests share: a small signed site served in this process ([`site`]), a proxy in front of any server that
//! stalls, lies and cuts off as it is told ([`proxy`]), by TLS with any certificate ([`certificate`]), a slow line ([`relay`]),
//! somebody who ends the TLS and listens ([`eavesdropper`]), in this process or in a network namespace ([`netns`]); and a host that was backed up, to be recovered in QEMU ([`protected`])
//! with its servers ([`service`]), that does errands ([`errand`]) and has a rescue system of its own ([`rescue_image`]); a live system
//! ([`live_system`]). Panics say what a test lacks.

pub mod certificate;
pub mod eavesdropper;
pub mod errand;
pub mod layer;
pub mod live_system;
pub mod netns;
pub mod protected;
pub mod proxy;
pub mod relay;
pub mod rescue_image;
pub mod service;
pub mod site;
