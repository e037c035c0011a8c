mod restic_server;

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use jiff::SignedDuration;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use towline_contract::lanes::LayerReader;
use towline_contract::manifest::{Compression, Kind};
use towline_contract::trust::EventSigner;

use super::*;
use crate::fixture;

const WANTED: Wanted<'_> = Wanted {
    host: "web1",
    session: "4bba301e",
    recovery: "r-0123456789abcdef",
};

struct World {
    folder: tempfile::TempDir,
    site: Site,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let site = fixture::site(&folder.path().join("site"), Timestamp::now());
        Self { folder, site }
    }

    fn dir(&self) -> std::path::PathBuf {
        self.folder.path().join("site")
    }

    /// Writes a file below `credentials/` as an operator should.
    fn put(&self, name: &str, content: &str) {
        let path = self.site.credentials().join(name);
        let mut folder = fs::DirBuilder::new();
        let made = folder
            .recursive(true)
            .mode(0o700)
            .create(path.parent().unwrap());
        made.unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn made(&self) -> Result<Vec<(String, String)>, CredentialsError> {
        make(&self.site, WANTED, Timestamp::now()).map(|made| unpacked(&made))
    }

    fn file(&self, name: &str) -> String {
        let files = self.made().unwrap();
        let found = files.into_iter().find(|(found, _)| found == name);
        found.map(|(_, content)| content).unwrap_or_default()
    }
}

/// The files of the layer, read as the machine reads them: by the rules of its kind.
fn unpacked(made: &Made) -> Vec<(String, String)> {
    let mut manifest = fixture::manifest(Kind::Credentials, "r-1", "1");
    manifest.compression = Compression::None;
    manifest.unpacked_bytes = made.reference.bytes;
    manifest.entries = made.reference.entries;
    assert_eq!(made.reference.digest, Digest::of(&made.layer));
    let mut reader = LayerReader::new(&manifest, &[]);
    let mut input = made.layer.as_slice();
    let mut files: Vec<(String, String)> = Vec::new();
    while let Some(item) = reader.next(&mut input).unwrap() {
        use towline_contract::lanes::LayerItem;
        match item {
            LayerItem::FileStart { path, .. } => {
                let path = String::from_utf8(path.as_bytes().to_vec()).unwrap();
                let name = path.strip_prefix("run/towline/credentials/").unwrap();
                files.push((name.into(), String::new()));
            }
            LayerItem::FileData(data) => {
                let (_, content) = files.last_mut().unwrap();
                content.push_str(std::str::from_utf8(data).unwrap());
            }
            _ => {}
        }
    }
    reader.finish().unwrap();
    files
}

#[test]
fn without_any_settings_there_are_token_certificate_and_authority() {
    let world = World::new();
    let made = make(&world.site, WANTED, Timestamp::now()).unwrap();
    let files = unpacked(&made);
    let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["ca.pem", "client.pem", "report-token"]);
    assert_eq!(
        files[0].1,
        fs::read_to_string(world.dir().join("ca/ca.pem")).unwrap()
    );
    assert_eq!(made.report_token, Digest::of(files[2].1.as_bytes()));
    assert_eq!(files[2].1.len(), 64);
    let signer = EventSigner::new("r-1", &files[2].1).unwrap();
    assert_eq!(made.report_key, signer.public());
    let again = world.file("report-token");
    assert_ne!(again, files[2].1, "another boot has another token");
}

#[test]
fn a_hosts_own_files_win_over_those_of_every_host_and_over_what_is_made() {
    let world = World::new();
    world.put("_all/environment", "A=all\n");
    world.put("_all/authorized_keys", "ssh-ed25519 AAAA ops\n");
    world.put("web1/environment", "A=web1");
    world.put("web1/client.pem", "from the vendor");
    world.put("web2/environment", "A=web2\n");
    assert_eq!(world.file("environment"), "A=web1");
    assert_eq!(world.file("authorized_keys"), "ssh-ed25519 AAAA ops\n");
    assert_eq!(world.file("client.pem"), "from the vendor");
}

#[test]
fn credentials_that_others_may_read_are_refused_with_what_to_do() {
    let world = World::new();
    world.put("web1/environment", "A=1\n");
    for (name, mode) in [("web1/environment", 0o640), ("web1", 0o710)] {
        let path = world.site.credentials().join(name);
        let good = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let error = world.made().unwrap_err();
        assert!(
            matches!(error, CredentialsError::Readable { .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains("chmod go="), "{error}");
        assert!(!error.told().contains('/'), "the machine learns no path");
        fs::set_permissions(&path, good).unwrap();
    }
    assert!(world.made().is_ok());
}

#[test]
fn what_is_no_file_or_is_the_servers_own_is_refused() {
    let world = World::new();
    world.put("web1/report-token", "mine");
    assert!(matches!(
        world.made(),
        Err(CredentialsError::Unusable { .. })
    ));
    fs::remove_file(world.site.credentials().join("web1/report-token")).unwrap();
    world.put("web1/more/key", "x");
    assert!(matches!(
        world.made(),
        Err(CredentialsError::Unusable { .. })
    ));
    fs::remove_dir_all(world.site.credentials().join("web1/more")).unwrap();
    world.put("web1/large", &"x".repeat(2 << 20));
    assert!(matches!(
        world.made(),
        Err(CredentialsError::Unusable { .. })
    ));
    world.put("web1/large", &"x".repeat(1 << 20));
    assert!(matches!(
        world.made(),
        Err(CredentialsError::TooLarge { .. })
    ));
}

#[test]
fn files_that_together_are_too_large_are_refused_before_it_is_night() {
    let world = World::new();
    let refused = |what: Result<Vec<String>, CredentialsError>| {
        let text = what.unwrap_err().to_string();
        assert!(text.contains("web1 have 1"), "{text}");
    };
    world.put("web1/one", &"x".repeat(600_000));
    world.put("_all/two", &"x".repeat(600_000));
    refused(check(&world.site, "web1"));
    // Alone they would fit, and with what is made for each boot they do not.
    world.put("_all/two", &"x".repeat((1 << 20) - 600_000 - 1500));
    refused(check(&world.site, "web1"));
    assert!(matches!(
        world.made(),
        Err(CredentialsError::TooLarge { .. })
    ));
    world.put("_all/two", &"x".repeat((1 << 20) - 600_000 - 12_000));
    check(&world.site, "web1").unwrap();
    world.made().unwrap();
}

#[test]
fn an_environment_that_the_machine_would_refuse_is_refused_here_without_its_content() {
    let world = World::new();
    world.put("web1/environment", "A=1\nexport SECRET=2\n");
    let error = world.made().unwrap_err();
    assert!(matches!(error, CredentialsError::Variable { line: 2, .. }));
    assert!(!format!("{error:?} {error}").contains("SECRET"));
}

#[test]
fn the_commands_variables_are_added_to_the_environment() {
    let mut world = World::new();
    world.put("web1/environment", "A=file");
    let command = ["sh", "-c", "echo \"B=$1 $2\"", "sh", "{host}", "{session}"];
    world.site.config.credentials.command = command.map(Into::into).into();
    assert_eq!(world.file("environment"), "A=file\nB=web1 4bba301e\n");
    for script in ["echo nothing of use", "echo A=1; exit 1"] {
        world.site.config.credentials.command = ["sh", "-c", script].map(Into::into).into();
        assert!(world.made().is_err(), "{script}");
    }
}

#[test]
fn a_site_of_older_date_gets_its_client_authority_on_first_use_and_keeps_it() {
    let world = World::new();
    let (pem, key) = (
        world.dir().join("ca/client-ca.pem"),
        world.dir().join("ca/client-ca.key"),
    );
    fs::remove_file(&pem).unwrap();
    let old_key = fs::read(&key).unwrap();
    world.made().unwrap();
    let made = fs::read(&pem).unwrap();
    assert_eq!(
        fs::read(&key).unwrap(),
        old_key,
        "an interrupted start goes on"
    );
    fs::remove_file(&pem).unwrap();
    fs::remove_file(&key).unwrap();
    world.made().unwrap();
    assert_ne!(fs::read(&pem).unwrap(), made);
    let again = fs::read(&pem).unwrap();
    world.made().unwrap();
    assert_eq!(fs::read(&pem).unwrap(), again);
    let mode = fs::metadata(&key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn the_dates_of_all_authorities_are_known() {
    let mut world = World::new();
    let ten_years = Timestamp::now() + SignedDuration::from_hours(24 * 3600);
    for row in dates::of(&world.site) {
        assert!(row.until.unwrap() > ten_years, "{row:?}");
    }
    world.site.config.credentials.agent_ca = Some("towline.toml".into());
    assert_eq!(dates::of(&world.site)[2].until, None);
}

fn roots(pem: &str) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
        .unwrap();
    roots
}

/// Whether an agent's server that asks for certificates of the client authority lets this one in, now.
fn lets_in(authorities: &Path, client: &str) -> Result<(), rustls::Error> {
    let read = |name: &str| fs::read_to_string(authorities.join(name)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots(&read("client-ca.pem"))),
        provider.clone(),
    );
    // The server's own certificate is not in question here: any of the site's authority will do.
    let key = rcgen::KeyPair::generate().unwrap();
    let ca_key = rcgen::KeyPair::from_pem(&read("ca.key")).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&read("ca.pem"), ca_key).unwrap();
    let params = rcgen::CertificateParams::new(["agents.example".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
        )
        .unwrap();
    let own = CertificateDer::from_pem_slice(client.as_bytes()).unwrap();
    let own_key = PrivateKeyDer::from_pem_slice(client.as_bytes()).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(&read("ca.pem")))
        .with_client_auth_cert(vec![own], own_key)
        .unwrap();
    let name = ServerName::try_from("agents.example").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    // The handshake, in memory.
    for _ in 0..8 {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        if !wire.is_empty() {
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets()?;
        }
    }
    assert!(!server.is_handshaking() && !client.is_handshaking());
    assert!(server.peer_certificates().is_some());
    Ok(())
}

#[test]
fn todays_client_certificate_is_accepted_and_yesterdays_is_refused() {
    let world = World::new();
    let authorities = world.dir().join("ca");
    let made_at = |now: Timestamp| {
        let made = make(&world.site, WANTED, now).unwrap();
        let files = unpacked(&made);
        files
            .into_iter()
            .find(|(name, _)| name == "client.pem")
            .unwrap()
            .1
    };
    let now = Timestamp::now();
    assert_eq!(lets_in(&authorities, &made_at(now)), Ok(()));
    let yesterday = now - SignedDuration::from_hours(24);
    let refused = lets_in(&authorities, &made_at(yesterday)).unwrap_err();
    let text = refused.to_string();
    assert!(text.to_lowercase().contains("expired"), "{text}");
    // Nor is that of another site.
    let stranger = World::new();
    let made = make(&stranger.site, WANTED, now).unwrap();
    let client = unpacked(&made)
        .into_iter()
        .find(|(name, _)| name == "client.pem")
        .unwrap()
        .1;
    assert!(lets_in(&authorities, &client).is_err());
}
