//! The means by which the kernel stops processes: loaded once, attached while somebody may have to
//! be armed.

use std::path::Path;
use std::thread;

use super::Processes;
use crate::daemon::message::Message;
use crate::world::failpoints;
use crate::world::flood::Flow;
use crate::world::panics::caught;
use crate::world::process::kernel_stop::KernelStop;
use crate::world::shortage::explain;

impl Processes {
    /// Has a thread find out whether the kernel can stop processes; that takes a while.
    pub fn load_kernel_stop(&self) {
        let (inbox, queue_dir) = (self.inbox.clone(), self.queue_dir.clone());
        let load = move || {
            let loaded = caught(|| load(&queue_dir)).flatten();
            let _ = inbox.send(Message::KernelStop(loaded.map(Box::new)));
        };
        if let Err(error) = thread::Builder::new().name("kernel-stop".to_owned()).spawn(load) {
            let _ = self.inbox.send(Message::KernelStop(Err(explain(&error))));
        }
    }

    /// The kernel can stop processes; by which means. Those that are in use stay: what they have
    /// stopped, no others know of.
    pub fn use_kernel_stop(&mut self, kernel: KernelStop) -> String {
        self.kernel.get_or_insert(kernel).attachment().to_string()
    }

    /// Has ready what arming takes: a process may have to be armed soon.
    pub fn attach(&mut self) {
        if let Some(Err(reason)) = self.kernel.as_mut().map(KernelStop::attach) {
            static FLOW: Flow = Flow::new();
            FLOW.warn(format_args!("what stops processes in the kernel cannot be attached: {reason}"));
        }
    }

    /// Takes away what arming takes, while nobody is armed. The kernel takes its time for that.
    pub fn detach(&mut self) {
        if let Some(unused) = self.kernel.as_mut().and_then(KernelStop::take_unused) {
            let detach = thread::Builder::new().name("detach".to_owned()).spawn(move || drop(unused));
            if let Err(error) = detach {
                log::debug!("detached at once: {}", explain(&error));
            }
        }
    }
}

fn load(queue_dir: &Path) -> Result<KernelStop, String> {
    failpoints::defect("kernel-stop");
    failpoints::refused("kernel.stop").map_err(|error| error.to_string())?;
    KernelStop::new(queue_dir).map_err(|reason| reason.to_string())
}
