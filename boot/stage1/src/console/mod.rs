//! The consoles: every line goes to all of them, and any of them can answer.
//!
//! `/dev/console` is only the last `console=` of the command line; whoever sits before another one would see nothing. So
//! lines are written to each entry of `/proc/consoles`, which is read again at each step because drivers add some. A
//! console that does not take a line in time loses that line, never the boot.

pub(crate) mod escape;
mod input;
pub(crate) mod meter;

use std::fmt::Arguments;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::progress::Progress;
use escape::escaped;
pub use input::Answer;
use meter::Meter;

/// Longest wait for a console to take a line. A serial line of 9600 baud sends 1000 characters in a second.
const WRITE_WAIT: Duration = Duration::from_secs(2);

/// Most of the log that is kept for the rescue system, in bytes; the beginning is kept.
const LOG_BYTES_MAX: usize = 256 << 10;

/// All consoles of this machine.
#[derive(Debug)]
pub struct Console {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    outputs: Vec<Output>,
    log: String,
    meter: Option<Meter>,
    file: Option<File>,
}

/// One console that can be written to.
#[derive(Debug)]
struct Output {
    /// Name below `/dev`.
    name: String,
    device: OwnedFd,
}

impl Output {
    /// Nothing can be said about a console that does not work, but on the others.
    fn write(&mut self, line: &[u8]) {
        let Err(error) = write_within(&self.device, line, WRITE_WAIT) else {
            return;
        };
        // The end of a shell's session hangs its terminal up for all who had it open (tty_ioctl(4)).
        let hung_up = error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error());
        if let (true, Ok(device)) = (hung_up, open_device(&self.name)) {
            self.device = device;
            let _ = write_within(&self.device, line, WRITE_WAIT);
        }
    }
}

impl Console {
    /// The consoles that the kernel knows now. None is no error: a machine may have no console at all.
    #[must_use]
    pub fn open() -> Self {
        let console = Self {
            state: Mutex::default(),
        };
        console.find_outputs(&mut console.lock());
        console
    }

    /// Also writes each line to the file at `path`, after the lines so far.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn log_to(&self, path: &Path) -> io::Result<()> {
        let mut file = File::options().create(true).append(true).open(path)?;
        let mut state = self.lock();
        io::Write::write_all(&mut file, state.log.as_bytes())?;
        state.file = Some(file);
        Ok(())
    }

    /// All lines so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.lock().log.clone()
    }

    /// Names of the consoles, as below `/dev`.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let state = self.lock();
        state.outputs.iter().map(|o| o.name.clone()).collect()
    }

    /// A line without any prefix, for menus.
    pub fn plain(&self, text: Arguments<'_>) {
        self.write_line(&escaped(&text.to_string()));
    }

    /// The end of a boot: the message of a failure, one escaped line for each of its own.
    pub fn failure(&self, lines: &str) {
        for line in lines.lines() {
            self.line("", format_args!("{line}"));
        }
    }

    fn line(&self, indent: &str, text: Arguments<'_>) {
        let uptime = uptime().as_secs_f64();
        let text = escaped(&text.to_string());
        self.write_line(&format!("{uptime:8.1} towline: {indent}{text}"));
    }

    fn write_line(&self, line: &str) {
        let mut state = self.lock();
        if state.log.len() < LOG_BYTES_MAX {
            state.log.push_str(line);
            state.log.push('\n');
        }
        if let Some(file) = &mut state.file {
            // A full disk must not stop a recovery; the consoles have the line.
            let _ = io::Write::write_all(file, format!("{line}\n").as_bytes());
        }
        for output in &mut state.outputs {
            output.write(format!("{line}\n").as_bytes());
        }
    }

    fn find_outputs(&self, state: &mut State) {
        let listed = std::fs::read_to_string("/proc/consoles").unwrap_or_default();
        let mut names: Vec<_> = listed.lines().filter_map(name_of_console).collect();
        if names.is_empty() {
            names.push("console");
        }
        state.outputs.retain(|o| names.contains(&o.name.as_str()));
        for name in names {
            if state.outputs.iter().any(|o| o.name == name) {
                continue;
            }
            if let Ok(device) = open_device(name) {
                let name = name.to_owned();
                state.outputs.push(Output { name, device });
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic ends the program; there is no half-written state to fear.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for Console {
    fn step(&self, text: Arguments<'_>) {
        self.find_outputs(&mut self.lock());
        self.line("", text);
    }

    fn transfer(&self, what: &str, done: u64, total: u64) {
        let now = uptime();
        let line = {
            let mut state = self.lock();
            let meter = match state.meter.take() {
                Some(meter) if meter.is_of(what, done) => meter,
                _ => Meter::new(what, done, now),
            };
            state.meter.insert(meter).report(done, total, now)
        };
        if let Some(line) = line {
            self.note(format_args!("{line}"));
        }
    }

    fn note(&self, text: Arguments<'_>) {
        self.line("  ", text);
    }

    fn warn(&self, text: Arguments<'_>) {
        self.line("warning: ", text);
    }
}

/// One console's terminal, for programs that change its settings.
#[derive(Debug)]
pub struct Device(OwnedFd);

impl Device {
    /// The console with this name below `/dev`.
    ///
    /// # Errors
    /// There is none.
    pub fn open(name: &str) -> io::Result<Self> {
        open_device(name).map(Self)
    }

    /// Its settings now; `None` if it is no terminal.
    #[must_use]
    pub fn settings(&self) -> Option<Termios> {
        tcgetattr(&self.0).ok()
    }

    /// Puts settings back.
    pub fn restore(&self, settings: Option<Termios>) {
        if let Some(settings) = settings {
            // A terminal that refuses its own settings is gone.
            let _ = tcsetattr(&self.0, OptionalActions::Now, &settings);
        }
    }
}

/// Time since the kernel started.
#[must_use]
pub fn uptime() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::try_from(time).unwrap_or_default()
}

/// The device's name in a line of `/proc/consoles` (Linux, fs/proc/consoles.c): `ttyS0 -W- (EC p a) 4:64`. Boot consoles
/// without a device have no number at the end.
fn name_of_console(line: &str) -> Option<&str> {
    let (name, rest) = line.split_once(' ')?;
    let number = rest.rsplit(' ').next()?;
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric());
    (plain && number.contains(':') && rest.contains('W')).then_some(name)
}

fn open_device(name: &str) -> io::Result<OwnedFd> {
    // Not blocking: a serial port may wait for a carrier that never comes.
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(
        format!("/dev/{name}"),
        flags,
        Mode::empty(),
    )?)
}

fn write_within(device: &OwnedFd, mut bytes: &[u8], wait: Duration) -> io::Result<()> {
    let deadline = Instant::now() + wait;
    while !bytes.is_empty() {
        match rustix::io::write(device, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => {
                let left = deadline.saturating_duration_since(Instant::now());
                let timeout = Timespec::try_from(left).unwrap_or_default();
                if poll(&mut [PollFd::new(device, PollFlags::OUT)], Some(&timeout))? == 0 {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consoles_are_found_by_their_device_and_boot_consoles_are_not() {
        let listed = [
            ("tty0                 -WU (EC  p  )    4:7", Some("tty0")),
            ("ttyS0                -W- (E   p a)    4:64", Some("ttyS0")),
            ("uart0                -W- (E Bp  )", None),
            ("../sda               -W- (E   p  )    8:0", None),
        ];
        for (line, name) in listed {
            assert_eq!(name_of_console(line), name, "{line}");
        }
    }

    #[test]
    fn a_console_that_takes_nothing_loses_the_line_and_not_the_boot() {
        let (_reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        let wait = Duration::from_millis(50);
        let error = write_within(&writer, &vec![b'x'; 1 << 20], wait).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
