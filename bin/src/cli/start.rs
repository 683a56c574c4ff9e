//! `start`: run the main process, and tell the operator what runs and what to try.
//!
//! Without a configuration file there is a demo to look at: two demo backends are started beside the
//! proxy, one in the configuration and one to be added while it runs.

mod banner;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use kakehi_command::config::{Config, DEMO_PORT};
use kakehi_command::order::Order;

use super::{CliError, Globals, runtime_dir, settings};
use crate::demo::{DemoChild, DemoError};
use crate::main_process::{self, Companion, StartOptions};

use banner::{Banner, Trial};

/// The demo backend that waits to be added.
const SECOND_NAME: &str = "second";

/// Runs the proxy until it is stopped.
pub(super) fn run(globals: &Globals) -> Result<ExitCode, CliError> {
    if main_process::is_asked_for() {
        return Ok(main_process::take_over()?);
    }
    let mut config = settings::load(globals.config.as_deref())?;
    warn(&config);
    let demo = if globals.config.is_none() {
        if let Some(directory) = config.command_socket.parent() {
            runtime_dir::create(directory)?;
        }
        Demo::start(&mut config)?
    } else {
        None
    };
    let banner = Banner {
        program: banner::program(),
        config: globals.config.as_deref().map(Path::to_owned),
        trial: demo.as_ref().map(|demo| demo.trial.clone()),
    };
    let options = StartOptions {
        config_path: globals.config.clone(),
        // Until the end open sessions still need them.
        companions: demo.map(|demo| demo.backends).unwrap_or_default(),
        on_ready: Box::new(move |ready| banner.print(ready)),
    };
    Ok(main_process::run(config, options)?)
}

/// Prints the warnings of a configuration.
pub(super) fn warn(config: &Config) {
    for warning in &config.warnings {
        eprintln!("warning: {}", super::table::visible(&warning.to_string()));
    }
}

/// The demo backends; they end when this is dropped.
struct Demo {
    trial: Trial,
    backends: Vec<Companion>,
}

impl Demo {
    /// Starts the demo backends and puts the first in the place that the configuration keeps for it.
    /// `None` if it keeps none.
    fn start(config: &mut Config) -> Result<Option<Self>, DemoError> {
        let place = config.orders.iter_mut().find_map(|order| match order {
            Order::AddBackend(backend)
                if backend.address().port() == DEMO_PORT && backend.unix_path().is_none() =>
            {
                Some(backend)
            }
            _ => None,
        });
        let Some(backend) = place else { return Ok(None) };
        let first = DemoChild::start(backend.backend_id())?;
        let second = DemoChild::start(SECOND_NAME)?;
        *backend = Arc::new(backend.at(first.address()));
        let trial = Trial {
            cluster: backend.cluster_id().to_string(),
            first: (backend.backend_id().to_string(), first.address()),
            second: (SECOND_NAME.to_owned(), second.address()),
        };
        let backends = vec![first.into_companion()?, second.into_companion()?];
        Ok(Some(Self { trial, backends }))
    }
}
