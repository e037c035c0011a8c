//! Walking a tree, and serving files by plain HTTP to a boot loader.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use anyhow::Result;

/// Calls `file` with path and size of every regular file below `dir`; links are not followed.
pub(crate) fn walk(dir: &Path, file: &mut dyn FnMut(&Path, u64)) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            walk(&entry.path(), file)?;
        } else if metadata.is_file() {
            file(&entry.path(), metadata.len());
        }
    }
    Ok(())
}

/// Serves these files by name until the program ends; HTTP/1.0, one answer a connection, which is all iPXE asks for.
pub(crate) fn serve(files: Vec<(&'static str, PathBuf)>) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away is QEMU that was switched off.
            let _ = answer(stream, &files);
        }
    });
    Ok(address)
}

fn answer(mut stream: TcpStream, files: &[(&'static str, PathBuf)]) -> io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let name = request
        .split(' ')
        .nth(1)
        .unwrap_or_default()
        .trim_start_matches('/');
    let Some((_, path)) = files.iter().find(|(known, _)| *known == name) else {
        return stream.write_all(b"HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    };
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    write!(
        stream,
        "HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n"
    )?;
    if !request.starts_with("HEAD") {
        io::copy(&mut file, &mut stream)?;
    }
    Ok(())
}
