//! `runtree serve`

use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};

use runtree_engine::OpenMode;
use runtree_server::{Answered, DEFAULT_PORT, ServeOptions, Server, Token, serve};

use crate::context::Context;
use crate::error::Failure;
use crate::look::Style;

/// Serve the web UI and the API
///
/// Listens on this machine only, unless another address is asked for, which needs a token. On a remote machine it prints the
/// `ssh -L` line to type at home. Ctrl-C ends it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    host: IpAddr,
    /// Port; 0 takes any free one
    #[arg(long, short, default_value_t = DEFAULT_PORT)]
    port: u16,
    /// Ask clients for a token; without a value one is made [default: RUNTREE_TOKEN]
    #[arg(long, num_args = 0..=1, default_missing_value = "")]
    token: Option<String>,
    /// Refuse every change
    #[arg(long)]
    read_only: bool,
    /// Write a line to stderr for every request: method, path, status, milliseconds
    #[arg(long)]
    log_requests: bool,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let token = match args.token.or_else(|| context.environment.token.clone()) {
        None => None,
        Some(text) if text.is_empty() => Some(Token::new(random_token())?),
        Some(text) => Some(Token::new(text)?),
    };
    let options = ServeOptions {
        address: SocketAddr::new(args.host, args.port),
        token,
        log: args.log_requests.then_some(log_request),
    };
    options.check()?;
    let mode = if args.read_only {
        OpenMode::ReadOnly
    } else {
        OpenMode::Create
    };
    let session = context.open(mode, &[])?;
    let mut told = Ok(());
    serve(session.engine, options, |server| {
        told = announce(server, context);
        Ok(())
    })?;
    told
}

fn announce(server: &Server, context: &mut Context) -> Result<(), Failure> {
    let url = server.url();
    if context.out.json {
        context.out.json(&serde_json::json!({ "url": url }))?;
    } else {
        let shown = context.out.look.paint(Style::Name, &url);
        context.out.line(shown)?;
    }
    context.out.flush()?;
    if let Some(line) = tunnel(
        context.environment.ssh_connection.as_deref(),
        context.environment.user.as_deref(),
        server.address(),
    ) {
        context
            .out
            .remark(&format!("from your own machine: {line}"));
    }
    context.out.remark("Ctrl-C ends it.");
    Ok(())
}

/// What to type at home to reach a server that listens here on loopback.
fn tunnel(connection: Option<&str>, user: Option<&str>, address: SocketAddr) -> Option<String> {
    if !address.ip().is_loopback() {
        return None;
    }
    // "client address, client port, server address, server port"
    let fields: Vec<&str> = connection?.split_whitespace().collect();
    let [_, _, host, ssh_port] = fields.as_slice() else {
        return None;
    };
    let port = address.port();
    let user = user.map(|user| format!("{user}@")).unwrap_or_default();
    let ssh_port = if *ssh_port == "22" {
        String::new()
    } else {
        format!(" -p {ssh_port}")
    };
    Some(format!(
        "ssh -N{ssh_port} -L {port}:localhost:{port} {user}{host}"
    ))
}

/// A reader of stderr that is gone must not end the server.
fn log_request(request: &Answered<'_>) {
    let _ = writeln!(
        io::stderr(),
        "{} {} {} {:.1} ms",
        request.method,
        request.path,
        request.status,
        request.duration.as_secs_f64() * 1e3
    );
}

fn random_token() -> String {
    format!("{:032x}", rand::random::<u128>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tunnel_line_names_user_host_and_ports() {
        let here: SocketAddr = "127.0.0.1:6780".parse().unwrap();
        assert_eq!(
            tunnel(Some("10.0.0.9 51234 10.0.0.5 22"), Some("eva"), here).as_deref(),
            Some("ssh -N -L 6780:localhost:6780 eva@10.0.0.5")
        );
        assert_eq!(
            tunnel(Some("10.0.0.9 51234 10.0.0.5 2222"), None, here).as_deref(),
            Some("ssh -N -p 2222 -L 6780:localhost:6780 10.0.0.5")
        );
        assert_eq!(tunnel(None, Some("eva"), here), None);
        assert_eq!(tunnel(Some("nonsense"), Some("eva"), here), None);
        let open: SocketAddr = "0.0.0.0:6780".parse().unwrap();
        assert_eq!(tunnel(Some("a 1 b 22"), None, open), None);
    }

    #[test]
    fn a_made_token_is_one_the_server_takes() {
        assert!(Token::new(random_token()).is_ok());
        assert_ne!(random_token(), random_token());
    }
}
