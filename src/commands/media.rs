//! `towline media`: builds the medium, and stamps, shows and clears a site's settings on it.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand, ValueEnum};
use towline_contract::stamp::{Expired, Settings};
use towline_contract::trust::TrustedRoot;
use towline_contract::{Secret, Timestamp};
use towline_media::area::{AreaError, Image};
use towline_media::build::{self, BuildError};
use towline_media::settings::{self, SettingsError};
use towline_media::versions::{self, VersionsError};

use super::layer::{apt_failure, packages_cache};
use super::stage1::stage1;
use crate::exit::{Exit, Failure, Outcome};
use crate::secret_file::secret_file;

/// Largest root metadata or CA file read, in bytes: more would not fit into a stamp.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// What a build needs beside its output, in bytes: its files, the EFI partition, and the image made of both.
const ROOM_BYTES: u64 = 3 * build::MEDIUM_BYTES_MAX;

/// Arguments of `towline media`.
#[derive(Args)]
pub(crate) struct MediaArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Build the generic medium: one image for CD and USB stick, BIOS, UEFI and Secure Boot.
    Build(BuildArgs),
    /// Write a site's settings onto a medium. They replace all earlier ones.
    Stamp(Box<StampArgs>),
    /// Show what is stamped on a medium.
    Show(ShowArgs),
    /// Take a site's settings off a medium: it is then as it was built.
    Clear {
        /// The image, or the stick it was written to.
        image: PathBuf,
    },
}

#[derive(Args)]
struct BuildArgs {
    /// The image to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The stage 1 program [default: found beside this program].
    #[arg(long, value_name = "FILE")]
    stage1: Option<PathBuf>,
    /// Folder for downloaded packages [default: towline/packages in the user's cache directory].
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
}

#[derive(Args)]
struct StampArgs {
    /// The image, or the stick it was written to.
    image: PathBuf,
    /// Base URL of a server; repeat it in order of preference.
    #[arg(long, value_name = "URL", required = true)]
    server: Vec<String>,
    /// The site's root metadata, which everything else is verified with.
    #[arg(long, value_name = "FILE")]
    root: PathBuf,
    /// PEM certificates of the authorities for the servers' TLS certificates;
    /// needed for https:// servers.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The host to recover, on a medium made for one.
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// `dhcp`, or address=CIDR,gateway=IP,dns=IP,interface=IF.
    #[arg(long, value_name = "NETWORK")]
    network: Option<String>,
    /// File with a recovery code, for an unattended recovery. Whoever holds the
    /// medium holds it.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Let the machine's console offer a shell.
    #[arg(long)]
    shell: bool,
    /// What to do when signed metadata has expired and nobody answers.
    #[arg(long, value_enum, default_value = "refuse")]
    expired: WhenExpired,
}

#[derive(Args)]
struct ShowArgs {
    /// The image, or the stick it was written to.
    image: PathBuf,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum WhenExpired {
    Refuse,
    Accept,
}

/// Runs `towline media`; `quiet` leaves out what is said along the way.
pub(crate) fn run(args: MediaArgs, quiet: bool) -> Outcome {
    match args.what {
        What::Build(args) => build(args, quiet),
        What::Stamp(args) => stamp(&args),
        What::Show(args) => show(&args),
        What::Clear { image } => clear(&image),
    }
}

fn build(args: BuildArgs, quiet: bool) -> Outcome {
    check_output(&args.output)?;
    let stage1 = stage1(args.stage1.as_deref(), "--stage1 FILE")?;
    let cache = args.cache.map_or_else(packages_cache, Ok)?;
    let talk = |line: &str| {
        if !quiet {
            eprintln!("media: {line}");
        }
    };
    let built = build::build(&stage1, &cache, &args.output, &talk).map_err(build_failure)?;
    println!(
        "{}: {:.1} MiB, kernel {}, {} modules",
        args.output.display(),
        built.bytes as f64 / f64::from(1 << 20),
        built.kernel_release,
        built.modules
    );
    Ok(())
}

/// Checks before the work what would fail after it: the image must be a file in a folder that is there.
fn check_output(path: &Path) -> Outcome {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let usage = |error| Failure::new(Exit::Usage, error).next("choose another file with --output");
    if path.is_dir() {
        return Err(usage(anyhow!("{} is a folder", path.display())));
    }
    if !folder.is_dir() {
        return Err(usage(anyhow!("there is no folder {}", folder.display())));
    }
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK)
        .with_context(|| format!("cannot write to {}", folder.display()))
        .map_err(usage)?;
    let free = rustix::fs::statvfs(folder)
        .map(|it| it.f_bavail.saturating_mul(it.f_frsize))
        .with_context(|| format!("cannot look at {}", folder.display()))?;
    if free < ROOM_BYTES {
        let error = anyhow!(
            "{} has room for {} MiB, and building takes up to {}",
            folder.display(),
            free >> 20,
            ROOM_BYTES >> 20
        );
        return Err(Failure::new(Exit::Internal, error)
            .next("make room there, or choose another file with --output"));
    }
    Ok(())
}

fn build_failure(error: BuildError) -> Failure {
    match &error {
        BuildError::NoTool { package, .. } => {
            let next = format!("install it: apt-get install {package}");
            Failure::new(Exit::Usage, error).next(next)
        }
        BuildError::Apt(cause) => {
            let (exit, next) = apt_failure(cause);
            let failure = Failure::new(exit, error);
            if next.is_empty() {
                failure
            } else {
                failure.next(next)
            }
        }
        _ => Failure::new(Exit::Internal, error),
    }
}

fn stamp(args: &StampArgs) -> Outcome {
    let settings = settings(args)?;
    let image = Image::open_to_stamp(&args.image).map_err(area_failure)?;
    image.stamp(&settings).map_err(area_failure)?;
    println!("{}: stamped", args.image.display());
    let plain = |url: &String| url.starts_with("http://");
    if settings.versions.is_empty() {
        eprintln!(
            "towline: there is no catalogue beside {}: older layers than today's, if they were ever signed, are believed",
            args.root.display()
        );
    }
    if settings.servers.iter().any(plain) {
        eprintln!(
            "towline: others can read along on http://; what is booted is verified all the same, and no secret is sent"
        );
    }
    Ok(())
}

/// Validates everything before the image is touched.
fn settings(args: &StampArgs) -> Result<Settings, Failure> {
    let servers: Result<Vec<_>, _> = args
        .server
        .iter()
        .map(|url| settings::server(url))
        .collect();
    let root = from_file(&args.root, settings::root)?;
    let catalogue = versions::beside(&args.root, root.as_bytes()).map_err(versions_failure)?;
    let root = settings::root(&catalogue.root).map_err(settings_failure)?;
    let versions = catalogue.versions;
    let ca = args
        .ca
        .as_deref()
        .map(|path| from_file(path, settings::ca))
        .transpose()?;
    let token = args.token_file.as_deref().map(token).transpose()?;
    let network = args
        .network
        .as_deref()
        .map(settings::network)
        .transpose()
        .map_err(settings_failure)?;
    let host = args
        .host
        .as_deref()
        .map(settings::host)
        .transpose()
        .map_err(settings_failure)?;
    let settings = Settings {
        servers: servers.map_err(settings_failure)?,
        root: Some(root),
        ca: ca.unwrap_or_default(),
        network: network.unwrap_or_default(),
        host,
        token,
        shell: args.shell,
        expired: match args.expired {
            WhenExpired::Refuse => Expired::Refuse,
            WhenExpired::Accept => Expired::Accept,
        },
        stamped: Timestamp::from_second(Timestamp::now().as_second()).ok(),
        versions,
    };
    settings::check(&settings).map_err(settings_failure)?;
    Ok(settings)
}

/// The recovery code in a file.
fn token(path: &Path) -> Result<Secret, Failure> {
    let text = secret_file(path, "recovery code", FILE_BYTES_MAX)?;
    settings::token(text.as_bytes()).map_err(|error| refused(path, error))
}

/// What `read` makes of a file.
fn from_file<T>(
    path: &Path,
    read: impl Fn(&[u8]) -> Result<T, SettingsError>,
) -> Result<T, Failure> {
    let usage = |error| Failure::new(Exit::Usage, error);
    let open = || format!("cannot read {}", path.display());
    let file = std::fs::File::open(path)
        .with_context(open)
        .map_err(usage)?;
    let mut bytes = Vec::new();
    let mut file = std::io::Read::take(file, FILE_BYTES_MAX + 1);
    std::io::Read::read_to_end(&mut file, &mut bytes)
        .with_context(open)
        .map_err(usage)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(usage(anyhow!(
            "{} has more than {FILE_BYTES_MAX} bytes",
            path.display()
        )));
    }
    read(&bytes).map_err(|error| refused(path, error))
}

fn refused(path: &Path, error: SettingsError) -> Failure {
    let mut failure = settings_failure(error);
    let context = format!("{} is refused", path.display());
    failure.error = failure.error.context(context);
    failure
}

fn versions_failure(error: VersionsError) -> Failure {
    match error {
        VersionsError::Read { .. } => Failure::new(Exit::Usage, error)
            .next("run it as the site's user, or copy the root alone to another folder"),
        VersionsError::Trust { .. } => Failure::new(Exit::NotTrusted, error)
            .next("use a root of this very site, or a copy of it alone"),
    }
}

fn settings_failure(error: SettingsError) -> Failure {
    match error {
        SettingsError::Root(_) => Failure::new(Exit::NotTrusted, error)
            .next("use the newest N.root.json in store/metadata of the site"),
        SettingsError::NoCa(_) => Failure::new(Exit::Usage, error).next(
            "add --ca ca/ca.pem of the site, or the authority that signed the server's certificate",
        ),
        SettingsError::Token(_) => Failure::new(Exit::Usage, error)
            .next("put the code of the host's open recovery into the file, and nothing else"),
        error => Failure::new(Exit::Usage, error),
    }
}

fn area_failure(error: AreaError) -> Failure {
    match &error {
        AreaError::None(_) | AreaError::CutOff(_) => Failure::new(Exit::Usage, error)
            .next("build one with `towline media build -o towline.iso`"),
        AreaError::Short { .. } => Failure::new(Exit::Usage, error)
            .next("copy the image again, or build it with `towline media build -o towline.iso`"),
        AreaError::Stamp { .. } => Failure::new(Exit::Usage, error)
            .next("clear it with `towline media clear IMAGE`, then stamp it again"),
        _ => Failure::new(Exit::Usage, error),
    }
}

fn clear(path: &Path) -> Outcome {
    let image = Image::open_to_stamp(path).map_err(area_failure)?;
    image.clear().map_err(area_failure)?;
    println!("{}: cleared", path.display());
    Ok(())
}

fn show(args: &ShowArgs) -> Outcome {
    let settings = Image::open(&args.image)
        .and_then(|image| image.settings())
        .map_err(area_failure)?;
    // The token is for the machine alone: shown is that there is one.
    let settings = settings.map(|settings| Settings {
        token: settings.token.map(|_| "(hidden)".to_owned().into()),
        ..settings
    });
    if args.json {
        let document = serde_json::json!({ "stamped": settings.is_some(), "settings": settings });
        println!(
            "{}",
            serde_json::to_string_pretty(&document).context("cannot print JSON")?
        );
        return Ok(());
    }
    match settings {
        None => println!("{}: not stamped", args.image.display()),
        Some(settings) => print(&settings),
    }
    Ok(())
}

/// Prints settings for people, one a line. They come from a file that anyone may have written: control characters are escaped.
fn print(settings: &Settings) {
    let line = |name: &str, value: &str| println!("{name:<11}{}", value.escape_debug());
    for server in &settings.servers {
        line("server", server);
    }
    if let Some(root) = &settings.root {
        match TrustedRoot::from_stamp(root.as_bytes()) {
            Ok(trusted) => line("root", &format!("version {}", trusted.version())),
            Err(error) => line("root", &format!("NOT TRUSTED: {error}")),
        }
    }
    let versions = settings.versions.iter();
    let versions: Vec<_> = versions.map(|(role, it)| format!("{role} {it}")).collect();
    if !versions.is_empty() {
        line("not before", &versions.join(", "));
    }
    if !settings.ca.is_empty() {
        line("ca", &format!("{} certificates", settings.ca.len()));
    }
    let network = &settings.network;
    line("network", network.address.as_deref().unwrap_or("dhcp"));
    let more = [
        ("gateway", &network.gateway),
        ("interface", &network.interface),
        ("host", &settings.host),
    ];
    for (name, value) in more {
        if let Some(value) = value {
            line(name, value);
        }
    }
    for server in &network.name_servers {
        line("dns", server);
    }
    if let Some(token) = &settings.token {
        line("token", token);
    }
    line(
        "shell",
        if settings.shell {
            "offered"
        } else {
            "not offered"
        },
    );
    let expired = match settings.expired {
        Expired::Refuse => "refuse",
        Expired::Accept => "accept",
    };
    line("expired", expired);
    if let Some(stamped) = settings.stamped {
        line("stamped", &stamped.to_string());
    }
}
