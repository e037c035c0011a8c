//! Client certificates for the agents' servers: short-lived, one for each boot, by an authority of their own.
//!
//! An agent's server is told to accept certificates by `ca/client-ca.pem`. The authority of the server's own certificate is
//! another one: who may recover and who may serve are different questions.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose};
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use crate::owner;
use crate::tls::{TlsError, authority, read, write};

/// File of the authority's certificate, in the folder of the site's authorities.
pub const CLIENT_CA_FILE: &str = "client-ca.pem";

/// File of its key.
const CLIENT_KEY_FILE: &str = "client-ca.key";

/// Certificates are valid from this long before they are made, for agents' servers whose clocks are a little behind.
const BACKDATED: Duration = Duration::minutes(10);

/// Makes the authority in `dir`, unless it is there: sites of older date have none. Interrupted, it goes on where it was.
///
/// # Errors
/// See [`TlsError`].
pub fn create(dir: &Path, now: OffsetDateTime) -> Result<(), TlsError> {
    let (pem_path, key_path) = (dir.join(CLIENT_CA_FILE), dir.join(CLIENT_KEY_FILE));
    if pem_path.exists() {
        return Ok(());
    }
    if !key_path.exists() {
        let secret = Zeroizing::new(KeyPair::generate()?.serialize_pem());
        write(&key_path, |path| put_once(path, secret.as_bytes(), 0o600))?;
    }
    let certificate = authority(&read_key(&key_path)?, "Towline recoveries", now)?;
    write(&pem_path, |path| {
        put_once(path, certificate.pem().as_bytes(), 0o644)
    })
}

/// A new certificate for `host` with its key, in one PEM text, by the authority in `dir`.
///
/// # Errors
/// See [`TlsError`].
pub fn certificate(
    dir: &Path,
    host: &str,
    hours: u16,
    now: OffsetDateTime,
) -> Result<Zeroizing<String>, TlsError> {
    create(dir, now)?;
    let authority = read_key(&dir.join(CLIENT_KEY_FILE))?;
    let issuer = Issuer::from_ca_cert_pem(&read(&dir.join(CLIENT_CA_FILE))?, authority)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, host);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.not_before = now - BACKDATED;
    params.not_after = now + Duration::hours(hours.into());
    let certificate = params.signed_by(&key, &issuer)?;
    let secret = Zeroizing::new(key.serialize_pem());
    Ok(Zeroizing::new(certificate.pem() + &secret))
}

fn read_key(path: &Path) -> Result<KeyPair, TlsError> {
    Ok(KeyPair::from_pem(&Zeroizing::new(read(path)?))?)
}

/// Writes a file as a whole; of two at once, the first stays.
fn put_once(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .permissions(fs::Permissions::from_mode(mode))
        .tempfile_in(folder)?;
    file.write_all(bytes)?;
    let folder = fs::File::open(folder)?;
    owner::as_folder(file.as_file(), &folder)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => Err(error.error),
        _ => folder.sync_all(),
    }
}
