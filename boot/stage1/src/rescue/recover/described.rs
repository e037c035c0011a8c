//! Whether a host's layer describes a host: read by this program. A host signs its own layers, so they name no commands to
//! check them with.

use std::fs;

use towline_contract::event::CheckResult;

use super::layout::Layout;
use super::settings::Rear;

/// What ReaR cannot do without: what distribution the host has.
const OS_CONF: &str = "os.conf";

/// The checks of the host layer `target`.
pub(super) fn checks(target: &str, rear: &Rear) -> Vec<CheckResult> {
    let result = |name: &str, found: Result<String, String>| CheckResult {
        layer: target.to_owned(),
        name: name.to_owned(),
        passed: found.is_ok(),
        output: found.unwrap_or_else(|why| why),
    };
    vec![
        result("the host's disk layout is there", layout(rear)),
        result("the host's configuration is there", configuration(rear)),
    ]
}

/// What will be recreated, in a few words.
fn layout(rear: &Rear) -> Result<String, String> {
    let path = rear.layout();
    let wrong = |why: String| format!("{}: {why}", path.display());
    let text = fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
    let layout = Layout::parse(&text).map_err(|error| wrong(error.to_string()))?;
    let (disks, file_systems) = (layout.disks.len(), layout.file_systems.len());
    Ok(format!("disks: {disks}, file systems: {file_systems}"))
}

/// The distribution's name, as ReaR has it.
fn configuration(rear: &Rear) -> Result<String, String> {
    let path = rear.settings().join(OS_CONF);
    let wrong = |why: String| format!("{}: {why}", path.display());
    let text = fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
    let line = text.lines().find(|line| line.starts_with("OS_"));
    let line =
        line.ok_or_else(|| wrong("it does not say what distribution the host has".into()))?;
    // It is the host's text, on our consoles and in an event.
    Ok(line.chars().take(100).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: &str =
        include_str!("../../../../../initramfs/recipes/host-example/disklayout.conf");
    const CONFIGURATION: &str =
        include_str!("../../../../../initramfs/recipes/host-example/os.conf");

    fn found(files: &[(&str, &str)]) -> Vec<CheckResult> {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        checks("host/example/1/all", &Rear::at(root.path()))
    }

    #[test]
    fn the_example_host_is_described() {
        let found = found(&[
            ("var/lib/rear/layout/disklayout.conf", LAYOUT),
            ("etc/rear/os.conf", CONFIGURATION),
        ]);
        assert!(found.iter().all(|it| it.passed), "{found:?}");
        assert_eq!(found[0].output, "disks: 1, file systems: 3");
        assert!(found[1].output.contains("Debian"), "{found:?}");
    }

    #[test]
    fn a_layer_without_a_layout_or_with_half_of_one_fails_its_check() {
        let nothing = found(&[]);
        assert!(nothing.iter().all(|it| !it.passed), "{nothing:?}");
        let half = found(&[
            ("var/lib/rear/layout/disklayout.conf", "disk /dev/sda\n"),
            ("etc/rear/os.conf", "# empty\n"),
        ]);
        assert!(half.iter().all(|it| !it.passed), "{half:?}");
        assert!(half[0].output.contains("line 1"), "{half:?}");
    }
}
