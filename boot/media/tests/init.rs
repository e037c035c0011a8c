//! PID 1 of the boot test: says what a medium handed to it, on the console that the kernel opened for it.

use std::fs;

fn main() {
    let line = |name: &str, value: String| println!("medium-test: {name} {value}");
    line("build", fs::read_to_string("/towline/build.json").unwrap_or_default().trim().to_owned());
    let area = fs::read("/towline/stamp").unwrap_or_default();
    line("stamp", format!("{} bytes {}", area.len(), String::from_utf8_lossy(area.get(106..160).unwrap_or_default())));
    let release = fs::read_dir("/lib/modules").ok().and_then(|mut dir| dir.next()?.ok()).map(|entry| entry.path());
    let release = release.unwrap_or_default();
    let dependencies = fs::read_to_string(release.join("modules.dep")).unwrap_or_default();
    let there = dependencies.lines().filter_map(|line| line.split(':').next()).filter(|path| release.join(path).is_file());
    line("modules", format!("{} of {}", there.count(), dependencies.lines().count()));
    println!("medium-test: end");
    loop {
        std::thread::park(); // the kernel panics when PID 1 ends
    }
}
