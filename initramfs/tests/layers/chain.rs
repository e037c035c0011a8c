//! What several layers need of one another.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use towline_contract::manifest::{Kind, Manifest, Needs, PLACES_ON_TARGET, Placement};
use towline_initramfs::chain;

use crate::support::{Workshop, directory_recipe};

/// An agent with `/bin/ls`, whose libraries must come from elsewhere, and a script.
fn agent() -> Manifest {
    let workshop = Workshop::new();
    fs::create_dir_all(workshop.path("tree/usr/bin")).unwrap();
    fs::copy(
        Path::new("/bin/ls").canonicalize().unwrap(),
        workshop.path("tree/usr/bin/agent"),
    )
    .unwrap();
    let script = workshop.write("tree/usr/bin/agent-report", "#!/bin/sh\n");
    fs::set_permissions(script, PermissionsExt::from_mode(0o755)).unwrap();
    let recipe = directory_recipe("from-earlier-layers = [\"*\"]").replace("\"base\"", "\"agent\"");
    workshop.build(&recipe).unwrap().manifest
}

/// A base with the libraries of this machine's `ls` and a shell.
fn base() -> Manifest {
    base_with("")
}

/// The same with these links.
fn base_with(links: &str) -> Manifest {
    let recipe = "kind = \"base\"\nname = \"test\"\nversion = \"1\"\nform = \"files\"\nlevel = 1\n\
                  [[source]]\ntype = \"links\"\nlinks = { {links}bin = \"usr/bin\", lib = \"usr/lib\", lib64 = \"usr/lib64\" }\n\
                  [[source]]\ntype = \"program\"\nprograms = [\"/bin/ls\", \"/bin/sh\"]\n";
    Workshop::new()
        .build(&recipe.replace("{links}", links))
        .unwrap()
        .manifest
}

#[test]
fn an_agent_without_its_base_lacks_libraries_loader_and_shell() {
    let agent = agent();
    let report = chain::check(std::slice::from_ref(&agent));
    assert!(!report.is_whole());
    for need in [
        "libc.so.6",
        "/usr/bin/sh",
        "/usr/lib64/ld-linux-x86-64.so.2",
    ] {
        assert!(
            report
                .unresolved
                .contains(&(agent.target_name(), need.to_owned())),
            "{need}: {report:?}"
        );
    }
}

#[test]
fn with_its_base_it_is_whole_and_the_sum_of_memory_is_known() {
    let (base, agent) = (base(), agent());
    let report = chain::check(&[base.clone(), agent.clone()]);
    assert_eq!(report.unresolved, []);
    assert_eq!(
        report.memory_bytes,
        base.unpacked_bytes + agent.unpacked_bytes
    );
    assert_eq!(report.stored_bytes, base.stored_bytes + agent.stored_bytes);
}

#[test]
fn a_host_whose_disk_the_chains_kernel_does_not_drive_is_named() {
    let mut host = agent();
    host.requires = Needs {
        modules: vec!["ahci".into(), "megaraid_sas".into()],
        ..Needs::default()
    };
    let mut kernel = base();
    assert!(chain::check(&[kernel.clone(), host.clone()]).is_whole());
    kernel.kind = Kind::Kernel;
    kernel.provides.modules = vec!["ahci".into()];
    let report = chain::check(&[kernel, host.clone()]);
    let missing = (host.target_name(), "megaraid_sas".to_owned());
    assert_eq!(report.unresolved, [missing]);
}

#[test]
fn a_layer_for_the_target_takes_no_memory_and_needs_a_base_that_puts_it_there() {
    let mut agent = agent();
    agent.placement = Placement::Target;
    let older = base();
    let report = chain::check(&[older.clone(), agent.clone()]);
    assert_eq!(report.memory_bytes, older.unpacked_bytes);
    let [(layer, need)] = &report.unresolved[..] else {
        panic!("{report:?}")
    };
    assert_eq!(*layer, agent.target_name());
    assert!(need.starts_with(PLACES_ON_TARGET), "{need}");
    let link = format!("\"{}\" = \"/usr/bin/ls\", ", &PLACES_ON_TARGET[1..]);
    let newer = base_with(&link);
    assert_eq!(chain::check(&[newer, agent]).unresolved, []);
}

#[test]
fn what_is_in_memory_cannot_lean_on_what_comes_when_the_disks_are_there() {
    let (mut needs, mut brings) = (agent(), agent());
    brings.placement = Placement::Target;
    brings.name = "on-disk".into();
    brings.provides.programs = vec!["/usr/bin/helper".into()];
    needs.requires = Needs {
        programs: vec!["helper".into()],
        ..Needs::default()
    };
    let link = format!("\"{}\" = \"/usr/bin/ls\", ", &PLACES_ON_TARGET[1..]);
    let chain = [base_with(&link), brings, needs];
    let missing = (chain[2].target_name(), "helper".to_owned());
    assert_eq!(chain::check(&chain).unresolved, [missing]);
    let [base, brings, mut needs] = chain;
    needs.placement = Placement::Target;
    assert!(chain::check(&[base, brings, needs]).is_whole());
}

/// A base with this machine's shell, and ReaR's configuration that asks for these programs.
fn base_with_rear(workshop: &Workshop, asks: &str) -> Result<Manifest, String> {
    let conf = format!("REQUIRED_PROGS=(\n\"$SCRIPT_FILE\"\n{asks}\n)\n");
    workshop.write("tree/default.conf", conf);
    let recipe = "kind = \"base\"\nname = \"test\"\nversion = \"1\"\nform = \"files\"\nlevel = 1\n\
                  [[source]]\ntype = \"links\"\nlinks = { bin = \"usr/bin\", lib = \"usr/lib\", lib64 = \"usr/lib64\" }\n\
                  [[source]]\ntype = \"program\"\nprograms = [\"/bin/cat\"]\n\
                  [[source]]\ntype = \"directory\"\npath = \"tree\"\nto = \"usr/share/rear/conf\"\n";
    let built = workshop.build(recipe);
    built
        .map(|it| it.manifest)
        .map_err(|it| crate::support::messages(&it))
}

#[test]
fn a_base_whose_rear_asks_for_a_program_that_is_not_there_is_not_built() {
    let workshop = Workshop::new();
    let whole = base_with_rear(&workshop, "cat # it is there").unwrap();
    assert!(whole.requires.programs.contains(&"cat".to_owned()));
    let refused = base_with_rear(&workshop, "cat\ndumpkeys").unwrap_err();
    let says = "dumpkeys (needed by usr/share/rear/conf/default.conf)";
    assert!(refused.contains(says), "{refused}");
}

#[test]
fn programs_that_an_agents_commands_and_checks_start_must_be_in_the_chain() {
    let mut agent = agent();
    let table = r#"{"restore": ["ls", "{session}"], "check": ["/bin/ls"], "sessions": ["{installed}/list"]}"#;
    agent.agent = Some(serde_json::from_str(table).unwrap());
    let base = base();
    assert_eq!(chain::check([&base, &agent]).unresolved, []);
    let table = r#"{"restore": ["/opt/x/restore"], "check": ["lost"]}"#;
    agent.agent = Some(serde_json::from_str(table).unwrap());
    let check = r#"{"name": "x", "command": ["gone", "--version"]}"#;
    agent.checks = vec![serde_json::from_str(check).unwrap()];
    let found = chain::check([&base, &agent]).unresolved;
    let needs: Vec<_> = found.iter().map(|it| it.1.as_str()).collect();
    assert_eq!(needs, ["lost", "/opt/x/restore", "gone"]);
}

#[test]
fn a_program_outside_of_the_folders_of_programs_is_not_found_by_its_name() {
    let (base, mut agent) = (base(), agent());
    agent.agent = Some(serde_json::from_str(r#"{"restore": ["archive"]}"#).unwrap());
    agent.requires.programs.push("mdadm".into());
    for path in ["/usr/lib/towline/agents/archive", "/etc/init.d/mdadm"] {
        agent.provides.programs.push(path.into());
    }
    let found = |agent: &Manifest| chain::check([&base, agent]).unresolved;
    let names: Vec<_> = found(&agent).into_iter().map(|it| it.1).collect();
    assert_eq!(names, ["mdadm", "archive"]);
    for path in ["/usr/local/bin/archive", "/usr/sbin/mdadm"] {
        agent.provides.programs.push(path.into());
    }
    assert_eq!(found(&agent), []);
}

#[test]
fn an_agents_commands_are_looked_for_in_the_path_that_it_sets_and_its_installer_too() {
    let (base, mut agent) = (base(), agent());
    agent.provides.programs.push("/opt/x/bin/restore".into());
    let mut found = |path: &str, command: &str| {
        let table = serde_json::json!({
            "restore": ["restore"],
            "environment": {"PATH": path},
            "install": {
                "url": "https://x.example/x.run", "sha256": "0".repeat(64), "bytes_max": 1,
                "directory": "{target}/x", "command": [command, "{installer}"],
            },
        });
        agent.agent = Some(serde_json::from_value(table).unwrap());
        let found = chain::check([&base, &agent]).unresolved;
        found.into_iter().map(|it| it.1).collect::<Vec<_>>()
    };
    assert_eq!(found("/opt/x/bin/:/bin", "/bin/sh"), [""; 0]);
    assert_eq!(found("/opt/x/bin", "ls"), ["ls"]);
    assert_eq!(found("/usr/bin", "/bin/gone"), ["restore", "/usr/bin/gone"]);
    // Where these are is known in the recovery only.
    assert_eq!(found("{target}/bin", "sh"), [""; 0]);
}

#[test]
fn a_layer_over_others_is_met_by_them_and_by_itself() {
    let (base, mut host) = (base(), agent());
    host.requires = Needs {
        programs: vec!["ls".into(), "own".into(), "gone".into()],
        ..Needs::default()
    };
    host.provides.programs.push("/usr/bin/own".into());
    let stack = chain::Stack::of(&[&base]);
    assert_eq!(stack.unresolved_of(&host), ["gone"]);
}
