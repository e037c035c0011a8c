//! The boot of the medium, from top to bottom; and what is kept when it has to begin again.

mod chain;

use std::convert::Infallible;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use towline_contract::Timestamp;
use towline_contract::api::PlanRequest;
use towline_contract::event::What;
use towline_contract::handover::{HandOverLayer, HandOverNote};
use towline_contract::lanes::Bounds;
use towline_contract::manifest::{Manifest, Placement};
use towline_contract::plan::HandOver;
use towline_contract::stamp::Expired;
use towline_contract::trust::{ExpiryPolicy, Verified};

use self::chain::{
    Came, check_memory, check_placement, in_words, manifests, place, prepare_for_images,
    replaceable,
};
use crate::code::{self, Answered};
use crate::console::Console;
use crate::failure::BootError;
use crate::fetch::plan::plan;
use crate::fetch::{Ask, Mirrors, Planned};
use crate::handover::{self, HandOverError};
use crate::menu::{self, Choice, Offer};
use crate::modules::Loader;
use crate::network::{self, Network, NetworkError};
use crate::progress::Progress as _;
use crate::report::Reporter;
use crate::settings::Settings;
use crate::{clock, machine, modules, mounts, power, shell};

/// Where the chain is put together.
const PLACE: &str = "/towline-root";

/// Modules without which images cannot be mounted.
pub(crate) const IMAGE_MODULES: &[&str] = &["loop", "squashfs", "overlay"];

/// What lasts from one attempt to the next.
struct Boot {
    console: Arc<Console>,
    settings: Option<Settings>,
    loader: Option<Loader>,
    network: Option<Network>,
    /// Of the attempt that has a plan; its events are told one after the other, the failure too.
    reporter: Option<Reporter>,
    hand_over: Option<HandOver>,
    accept_expired: bool,
    failures: u32,
}

/// Boots, asks and boots again; ends by becoming the rescue system.
pub async fn run(console: Arc<Console>) -> Infallible {
    let mut boot = Boot {
        console,
        settings: None,
        loader: None,
        network: None,
        reporter: None,
        hand_over: None,
        accept_expired: false,
        failures: 0,
    };
    loop {
        let Err(error) = boot.attempt().await;
        boot.failed(&error).await;
        boot.ask(&error).await;
    }
}

impl Boot {
    /// One boot: every line needs what the line above proved.
    async fn attempt(&mut self) -> Result<Infallible, BootError> {
        mounts::mount_all()?;
        mounts::unmount_below(Path::new(PLACE));
        let settings = self.settings()?;
        self.start_clock(&settings);
        self.load_drivers(&settings);
        // Not before the keyboard has its driver: a person can type one.
        settings.require_server()?;
        self.bring_up_network(&settings).await?;
        let mut planned = self.plan(&settings).await?;
        let came = Came {
            credentials: planned.credentials.take(),
            host_layer: planned.host_layer.take(),
        };
        let (planned, reporter) = (&planned, Reporter::of(&planned));
        self.reporter = Some(reporter.clone());
        reporter.send_meanwhile(What::PlanVerified);
        let mirrors = Mirrors::of(planned, &*self.console);
        let manifests = manifests(&self.console, &mirrors, planned).await?;
        check_placement(manifests.iter().map(|it| &**it))?;
        check_memory(&self.console, planned.chain.plan.hand_over, &manifests)?;
        if let Some(mut loader) = self.loader.take() {
            prepare_for_images(&self.console, &mut loader)?;
        }
        let ready = place(
            &self.console,
            &mirrors,
            planned,
            &manifests,
            came,
            &reporter,
        )
        .await?;
        let note = note(&settings, planned, &mirrors, &manifests);
        let how = planned.chain.plan.hand_over;
        self.console.step(format_args!(
            "starting the rescue system ({})",
            in_words(how)
        ));
        // The server that answered a moment ago may be gone; the rescue system can be started without it.
        let _ = reporter.send(What::HandOver { how }).await;
        Ok(handover::start(ready, &note, &self.console.log(), &mut self.network).await?)
    }

    fn settings(&mut self) -> Result<Settings, BootError> {
        if let Some(settings) = &self.settings {
            return Ok(settings.clone());
        }
        let command_line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
        let settings = Settings::read(Path::new("/"), &command_line)?;
        let build = &settings.build;
        self.console.step(format_args!(
            "Towline {}, medium of {}, kernel {}",
            build.version, build.built, build.kernel_release
        ));
        self.hand_over = settings.hand_over;
        Ok(self.settings.insert(settings).clone())
    }

    /// A hardware clock below the floor is wrong for certain.
    fn start_clock(&self, settings: &Settings) {
        let now = clock::now();
        let believed = clock::believed(now, settings.floor);
        if believed != now {
            self.console.warn(format_args!(
                "the hardware clock says {}, before this medium was made; going on with {believed}",
                clock::to_second(now)
            ));
            if let Err(error) = clock::set(believed) {
                self.console
                    .warn(format_args!("the clock cannot be set: {error}"));
            }
        }
    }

    fn load_drivers(&mut self, settings: &Settings) {
        if self.loader.is_none() {
            match Loader::open(&settings.command_line) {
                Ok(loader) => self.loader = Some(loader),
                // They were released after an earlier attempt, or the kernel has all it needs built in.
                Err(error) => self
                    .console
                    .note(format_args!("no drivers to load on this medium: {error}")),
            }
        }
        if let Some(loader) = &mut self.loader {
            self.console.step(format_args!("loading drivers"));
            let count = loader.cold_plug(&*self.console);
            self.console.note(format_args!("{count} modules loaded"));
        }
    }

    async fn bring_up_network(&mut self, settings: &Settings) -> Result<(), BootError> {
        if self.network.is_some() {
            return Ok(());
        }
        self.console.step(format_args!(
            "bringing up the network (up to {} s)",
            network::PATIENCE.as_secs()
        ));
        let (console, loader) = (self.console.clone(), &mut self.loader);
        let mut plug = || {
            if let Some(loader) = loader {
                loader.cold_plug(&*console);
            }
        };
        let brought_up =
            network::bring_up(&settings.site.network, self.console.clone(), &mut plug).await;
        if let Err(NetworkError::NoInterface | NetworkError::NoAddress { .. }) = brought_up {
            self.show_missing_drivers();
        }
        self.network = Some(brought_up?);
        Ok(())
    }

    fn show_missing_drivers(&self) {
        for device in modules::driverless_network_devices() {
            self.console.warn(format_args!(
                "network device {} at {} has no driver on this medium",
                device.id, device.slot
            ));
        }
        for file in modules::missing_firmware() {
            self.console.warn(format_args!(
                "a driver asks for firmware that this medium does not have: {file}"
            ));
        }
    }

    /// The plan; when a recovery is open and its code is known, the plan that recovers.
    async fn plan(&self, settings: &Settings) -> Result<Planned, BootError> {
        let (site, ask) = (&settings.site, self.request(settings));
        let planned = plan(site, &ask, &*self.console).await?;
        correct_clock(&self.console, &planned);
        if !code::is_wanted(&planned.chain.plan) {
            return Ok(planned);
        }
        match code::answer(&self.console, site, &ask, &planned).await? {
            Answered::Recover(recovery) => Ok(*recovery),
            Answered::RescueOnly => Ok(planned),
        }
    }

    fn request(&self, settings: &Settings) -> Ask {
        let expiry = match self.accept_expired {
            true => Expired::Accept,
            false => settings.site.expired,
        };
        Ask {
            request: PlanRequest {
                nonce: [0; 32].into(),
                architecture: machine::architecture().to_owned(),
                kernel_release: machine::kernel_release(),
                host: settings.site.host.clone(),
                hand_over: self.hand_over,
                machine: machine::identity(),
            },
            floor: settings.floor,
            versions: settings.site.versions.clone(),
            expiry: ExpiryPolicy::from(expiry),
        }
    }

    /// Says it, here and to the server.
    async fn failed(&mut self, error: &BootError) {
        let message = error.message();
        self.console.failure(&message);
        self.failures += 1;
        self.accept_expired = false;
        if let Some(reporter) = self.reporter.take() {
            let _ = reporter.send(What::Failed { message }).await;
        }
        if let (true, Some(network)) = (error.is_unreachable(), &self.network) {
            network.prefer_next().await;
        }
        if matches!(
            error,
            BootError::HandOver(HandOverError::KexecRefused { .. })
        ) && self.chosen_hand_over().is_none()
        {
            self.console
                .note(format_args!("the next attempt asks for a start in place"));
            self.hand_over = Some(HandOver::InPlace);
        }
    }

    /// What somebody typed at the boot loader outweighs what this program finds better.
    fn chosen_hand_over(&self) -> Option<HandOver> {
        self.settings.as_ref().and_then(|it| it.hand_over)
    }

    async fn ask(&mut self, error: &BootError) {
        let offer = Offer {
            // Without settings there are no keys either, and those cannot be typed.
            network: self.settings.is_some(),
            shell: self.settings.as_ref().is_some_and(|it| it.site.shell),
            accept_expired: error.expired().is_some(),
            in_place: matches!(
                error,
                BootError::HandOver(
                    HandOverError::KexecRefused { .. } | HandOverError::KexecStart(_)
                )
            ),
        };
        let mut choice = menu::ask(&self.console, offer, menu::wait(self.failures)).await;
        while let Choice::Shell { console } = choice {
            if let Err(error) = shell::run(&console).await {
                self.console.warn(format_args!("no shell: {error}"));
            }
            choice = menu::ask(&self.console, offer, menu::ANSWER_WAIT).await;
        }
        self.follow(choice).await;
    }

    async fn follow(&mut self, choice: Choice) {
        match choice {
            Choice::Retry | Choice::Shell { .. } => {}
            Choice::AcceptExpired => self.accept_expired = true,
            Choice::InPlace => self.hand_over = Some(HandOver::InPlace),
            Choice::Network { network, servers } => {
                // The next attempt starts another with the new settings.
                if let Some(old) = self.network.take() {
                    old.forget().await;
                }
                if let Some(settings) = &mut self.settings {
                    settings.typed(network, servers);
                }
            }
            Choice::Reboot => {
                let _ = power::run(power::Command::Reboot);
            }
        }
    }
}

/// A plan is signed and answers a nonce of this boot: its time is the best there is.
fn correct_clock(console: &Console, planned: &Planned) {
    let (now, right) = (clock::now(), proven_now(planned));
    if clock::is_suspiciously_old(right, now) {
        console.warn(format_args!(
            "the plan says it is {}, and this machine's clock {}: if the clock is right, the server offers what is old",
            clock::to_second(right),
            clock::to_second(now)
        ));
    }
    let seconds = now.duration_since(right).as_secs();
    if seconds.abs() > 2 {
        console.note(format_args!(
            "the clock is corrected from {} to {}",
            clock::to_second(now),
            clock::to_second(right)
        ));
    }
    if let Err(error) = clock::set(right) {
        console.warn(format_args!("the clock cannot be set: {error}"));
    }
}

fn note(
    settings: &Settings,
    planned: &Planned,
    mirrors: &Mirrors,
    manifests: &[Verified<Manifest>],
) -> HandOverNote {
    let plan = &planned.chain.plan;
    let on_target = |it: &Manifest| it.placement == Placement::Target;
    let layer = |manifest: &Verified<Manifest>| HandOverLayer {
        target: manifest.target_name(),
        image: manifest.image.as_ref().map(|image| image.path.clone()),
        checks: manifest.checks.clone(),
        agent: manifest.agent.clone(),
        session: manifest.session.clone(),
        on_target: on_target(manifest).then(|| Manifest::clone(manifest)),
        bounds: match on_target(manifest) {
            true => manifest.bounds.clone(),
            false => Bounds::default(),
        },
    };
    // Older rescue systems do not know these.
    let (mirrors, replaceable) = match manifests.iter().any(|it| on_target(it)) {
        true => (mirrors.urls(), replaceable(manifests)),
        false => (vec![], vec![]),
    };
    HandOverNote {
        recovery: plan.recovery.clone(),
        host: plan.host.clone(),
        time: proven_now(planned),
        servers: vec![planned.server.to_string()],
        ca: settings.site.ca.clone(),
        mirrors,
        replaceable,
        network: settings.site.network.clone(),
        shell: settings.site.shell,
        layers: manifests.iter().map(layer).collect(),
        order: plan.order.clone(),
    }
}

/// The plan's time, moved on by what has passed since.
fn proven_now(planned: &Planned) -> Timestamp {
    planned.time.now().unwrap_or_else(clock::now)
}
