//! restic: `rclone serve restic` over TLS. It has a certificate of the site's authority, and lets in who has one of the
//! authority of clients: the recovery's is made for its boot; the host's is what an operator gave it for its backups.

use std::path::Path;

use towline_server::credentials::client_ca;

use super::{Backups, HOST, PASSWORD};
use crate::commands::demo::served::Rclone;
use crate::exit::{Exit, Failure};

/// How long the host's certificate is good, in hours: it is made anew for each demonstration.
const HOST_HOURS: u16 = 24;

/// What the host does.
const SCRIPT: &str = include_str!("restic.sh");

/// Starts a server for a repository in `folder`.
pub(super) fn start(folder: &Path, ca: &Path, name: &str) -> Result<Backups, Failure> {
    let clients = ca.join(client_ca::CLIENT_CA_FILE);
    let server = Rclone {
        protocol: "restic",
        words: &[
            "--cache-objects=false".into(),
            "--client-ca".into(),
            clients.into(),
        ],
        environment: &[],
    };
    let (server, port) = server.serve(folder, ca, name)?;
    let now = time::OffsetDateTime::now_utc();
    let certificate = client_ca::certificate(ca, HOST, HOST_HOURS, now)
        .map_err(|error| Failure::new(Exit::Internal, error))?;
    Ok(Backups {
        servers: vec![server],
        variables: format!(
            "RESTIC_REPOSITORY=rest:https://{name}:{port}/\nRESTIC_PASSWORD={PASSWORD}\n"
        ),
        script: SCRIPT,
        host: vec![("client.pem", 0o600, certificate.as_bytes().to_vec())],
        credentials: Vec::new(),
        recipe: None,
    })
}
