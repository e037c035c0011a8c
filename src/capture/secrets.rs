//! Credentials in ReaR's files: a host layer can be read by whoever reads the store, so they stay on the host.
//!
//! A line that only sets a credential is replaced by a remark. A credential within other code cannot be taken out safely:
//! that is refused. What the recovery needs to log in with comes from the server, fresh ([`towline_contract::recovery`]).

use std::fs;
use std::path::{Path, PathBuf};

use super::error::{CaptureError, file};

/// Parts of the names of variables that hold credentials.
const SECRET_NAMES: [&str; 9] = [
    "ACCESS_KEY",
    "CREDENTIAL",
    "CRYPT_KEY",
    "PASSPHRASE",
    "PASSWD",
    "PASSWORD",
    "PRIVATE_KEY",
    "SECRET",
    "TOKEN",
];

/// Values of settings that only say whether.
const SWITCHES: [&str; 8] = ["", "yes", "no", "true", "false", "0", "1", "()"];

/// Takes the credentials out of the description in `root`; gives what was left out.
///
/// # Errors
/// A credential stands among other things.
pub(super) fn take_out(root: &Path) -> Result<Vec<String>, CaptureError> {
    let mut left_out = Vec::new();
    for path in files(&root.join("etc/rear"))? {
        let bytes = fs::read(&path).map_err(file("read", &path))?;
        let text = String::from_utf8_lossy(&bytes);
        let name = shown(&path, root);
        if text.contains("PRIVATE KEY-----") {
            fs::remove_file(&path).map_err(file("remove", &path))?;
            left_out.push(format!("{name}: a private key"));
            continue;
        }
        let (clean, found) = settings(&text).map_err(|(line, name)| CaptureError::Secret {
            file: path.strip_prefix(root).unwrap_or(&path).to_owned(),
            line,
            name,
        })?;
        if !found.is_empty() {
            fs::write(&path, clean).map_err(file("write", &path))?;
            left_out.extend(found.into_iter().map(|it| format!("{name}: {it}")));
        }
    }
    let path = root.join("var/lib/rear/layout/disklayout.conf");
    let text = fs::read_to_string(&path).unwrap_or_default();
    if let Some(clean) = layout(&text) {
        fs::write(&path, clean).map_err(file("write", &path))?;
        left_out.push(format!(
            "{}: passwords of encrypted devices",
            shown(&path, root)
        ));
    }
    Ok(left_out)
}

fn shown(path: &Path, root: &Path) -> String {
    let name = path.strip_prefix(root).unwrap_or(path);
    name.display().to_string()
}

/// All files below `folder`, in order.
fn files(folder: &Path) -> Result<Vec<PathBuf>, CaptureError> {
    let (mut found, mut todo) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.map_err(file("read", &folder))?.path();
            match path.is_dir() {
                true => todo.push(path),
                false => found.push(path),
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The layout without passwords that someone wrote into it (`password=` of `crypt` and `opaldisk`); none if it has none.
fn layout(text: &str) -> Option<String> {
    let is_secret = |word: &str| {
        word.strip_prefix("password=")
            .is_some_and(|it| !it.is_empty())
    };
    if !text.split_ascii_whitespace().any(is_secret) {
        return None;
    }
    let line = |line: &str| match line.split(' ').any(is_secret) {
        true => line
            .split(' ')
            .filter(|it| !is_secret(it))
            .collect::<Vec<_>>()
            .join(" "),
        false => line.to_owned(),
    };
    Some(text.lines().map(|it| line(it) + "\n").collect())
}

/// Settings without credentials, and the names of what was left out.
///
/// # Errors
/// The line, from 1, and the name of a credential that is not alone on its line.
fn settings(text: &str) -> Result<(String, Vec<String>), (usize, String)> {
    let (mut clean, mut found, mut state) = (String::new(), Vec::new(), Shell::default());
    for (number, line) in (1_usize..).zip(text.lines()) {
        let before = state;
        state.read(line);
        let Some(name) = secret(line) else {
            clean.push_str(line);
            clean.push('\n');
            continue;
        };
        let alone = before == Shell::default() && state == Shell::default();
        let comment = before == Shell::default() && line.trim_start().starts_with('#');
        if !(comment || alone && is_assignment(line)) {
            return Err((number, name));
        }
        clean.push_str(&format!("# {name} has a credential and was left out.\n"));
        found.push(name);
    }
    Ok((clean, found))
}

/// What a line leaves open for the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Shell {
    quote: Option<char>,
    parentheses: u32,
    continued: bool,
}

impl Shell {
    fn read(&mut self, line: &str) {
        let mut letters = line.chars().peekable();
        let mut previous = ' ';
        self.continued = false;
        while let Some(letter) = letters.next() {
            match (self.quote, letter) {
                (Some('\''), '\'') => self.quote = None,
                (Some('\''), _) => {}
                (_, '\\') => self.continued = letters.next().is_none(),
                (Some(quote), _) if quote == letter => self.quote = None,
                (Some(_), _) => {}
                (None, '#') if previous.is_whitespace() => return,
                (None, '\'' | '"') => self.quote = Some(letter),
                (None, '(' | '{') => self.parentheses += 1,
                (None, ')' | '}') => self.parentheses = self.parentheses.saturating_sub(1),
                (None, _) => {}
            }
            previous = letter;
        }
    }
}

/// The name of the credential in a line, if there is one.
fn secret(line: &str) -> Option<String> {
    let plain = line.trim_start().trim_start_matches('#').trim_start();
    if let Some((name, value)) = assignment(plain) {
        let bare = value.trim().trim_matches(['"', '\'']);
        let bare = bare.split(" #").next().unwrap_or_default().trim_end();
        let named = SECRET_NAMES
            .iter()
            .any(|it| name.to_ascii_uppercase().contains(it));
        let is_switch =
            SWITCHES.contains(&bare.trim_matches(['"', '\'']).to_ascii_lowercase().as_str());
        if (named && !is_switch) || has_login(value) || names_a_password(value) {
            return Some(name.to_owned());
        }
        return None;
    }
    // What is no setting, but code or a remark.
    match has_login(plain) || names_a_password(plain) {
        true => Some("a password".to_owned()),
        false => None,
    }
}

/// `NAME=VALUE`, `NAME+=VALUE`, `export NAME=VALUE`.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let line = ["export ", "readonly ", "declare -x "]
        .iter()
        .fold(line, |line, word| line.strip_prefix(word).unwrap_or(line));
    let (name, value) = line.split_once('=')?;
    let name = name.strip_suffix('+').unwrap_or(name);
    let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let is_name = !name.is_empty() && name.bytes().all(letter);
    is_name.then_some((name, value))
}

/// Nothing but assignments: no command follows.
fn is_assignment(line: &str) -> bool {
    let mut quote = None;
    let commands = line.chars().any(|letter| match (quote, letter) {
        (Some(open), _) => {
            if open == letter {
                quote = None;
            }
            false
        }
        (None, '\'' | '"') => {
            quote = Some(letter);
            false
        }
        (None, _) => ";&|`".contains(letter),
    });
    !commands && assignment(line.trim_start()).is_some()
}

/// A URL with a password: `scheme://user:password@host`.
fn has_login(text: &str) -> bool {
    text.match_indices("://").any(|(at, _)| {
        let end = |c: char| c == '/' || c.is_whitespace() || "\"'<>".contains(c);
        let rest = &text[at + 3..];
        let authority = rest.split(end).next().unwrap_or_default();
        let login = authority.rsplit_once('@').map(|(login, _)| login);
        login.is_some_and(|it| it.split_once(':').is_some_and(|(_, it)| !it.is_empty()))
    })
}

/// `password=…` within options, such as those of a mount.
fn names_a_password(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["password", "passwd", "passphrase", "secret", "token"]
        .iter()
        .any(|word| {
            text.match_indices(word).any(|(at, _)| {
                let rest = &text[at + word.len()..];
                let value = rest
                    .strip_prefix('=')
                    .map(|it| it.trim_start_matches(['"', '\'']));
                let first = value.and_then(|it| it.chars().next());
                // A variable is not the password itself.
                first.is_some_and(|it| !it.is_whitespace() && !"$,;)".contains(it))
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_url_is_left_out_and_the_rest_stays() {
        let text = "BACKUP=NETFS\nBACKUP_URL=cifs://joe:hunter2@nas/share\nBOOTLOADER=GRUB2\n";
        let (clean, found) = settings(text).unwrap();
        assert_eq!(found, ["BACKUP_URL"]);
        assert!(!clean.contains("hunter2"));
        assert!(clean.contains("BACKUP=NETFS\n") && clean.contains("BOOTLOADER=GRUB2\n"));
    }

    #[test]
    fn each_form_of_credential_is_found() {
        for line in [
            "SSH_ROOT_PASSWORD='$6$abc$def'",
            "export RESTIC_PASSWORD=x",
            "BACKUP_PROG_CRYPT_KEY=\"secret\"",
            "AWS_SECRET_ACCESS_KEY=x",
            "  # OLD: BACKUP_URL=ftp://a:b@c/",
            "#SSH_ROOT_PASSWORD=secret",
            "BACKUP_OPTIONS=\"cred=/x,username=joe,password=hunter2\"",
            "BACKUP_OPTIONS+=( password=hunter2 )",
        ] {
            let (clean, found) = settings(line).unwrap();
            assert_eq!(found.len(), 1, "{line}");
            let ends = ["hunter2", "abc", "secret\"", "=x", "a:b", "=secret"];
            assert!(!ends.iter().any(|it| clean.contains(it)), "{clean}");
        }
    }

    #[test]
    fn what_only_looks_like_one_stays() {
        let text = concat!(
            "SSH_ROOT_PASSWORD=\"\"\n",
            "SSH_UNPROTECTED_PRIVATE_KEYS='no'\n",
            "BACKUP_URL=nfs://nas/share\n",
            "BACKUP_URL=sshfs://joe@nas/share\n",
            "# The password is asked for.\n",
            "OPTIONS=\"password=$PASSWORD_FROM_FILE\"\n",
        );
        let (clean, found) = settings(text).unwrap();
        assert_eq!(found, Vec::<String>::new());
        assert_eq!(clean, text);
    }

    #[test]
    fn a_credential_among_other_code_is_refused_by_its_line() {
        for text in [
            "A=1\nRESTIC_PASSWORD=x; run_it",
            "A=(\nRESTIC_PASSWORD=x\n)",
            "A='\nSSH_ROOT_PASSWORD=x\n'",
            "RESTIC_PASSWORD=\"a\nb\"",
            "A=1 \\\nRESTIC_PASSWORD=x",
            "test -f /x && mount -o password=hunter2 /y",
        ] {
            assert!(settings(text).is_err(), "{text}");
        }
    }

    #[test]
    fn passwords_in_a_layout_are_left_out() {
        let text =
            "disk /dev/sda 1 gpt\ncrypt /dev/mapper/a /dev/sda1 type=luks2 password=x uuid=u\n";
        let clean = layout(text).unwrap();
        assert_eq!(
            clean,
            "disk /dev/sda 1 gpt\ncrypt /dev/mapper/a /dev/sda1 type=luks2 uuid=u\n"
        );
        assert_eq!(layout(&clean), None);
    }

    #[test]
    fn a_private_key_is_left_out_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("etc/rear/mappings");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("key");
        fs::write(&path, "-----BEGIN OPENSSH PRIVATE KEY-----\n").unwrap();
        let found = take_out(dir.path()).unwrap();
        assert_eq!(found, ["etc/rear/mappings/key: a private key"]);
        assert!(!path.exists());
    }
}
