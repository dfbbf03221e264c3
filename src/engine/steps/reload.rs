//! The configuration is read again while the daemon runs.

use crate::engine::Engine;
use crate::engine::effect::{Effect, Level};
use crate::engine::input::Now;
use crate::engine::report::Problem;
use crate::engine::settings::Settings;
use crate::engine::topic::{MessageId, Topic};

impl Engine {
    /// The configuration was read again; a bad one changes nothing. Paths stay as they are.
    pub(in crate::engine) fn reloaded(&mut self, now: Now, result: Result<(Box<Settings>, String), String>) {
        match result {
            Ok((settings, node)) => {
                if settings.paths != self.settings.paths {
                    let text = "a change of [paths] needs a restart; the other settings apply now";
                    self.report.say(Level::Warning, text);
                }
                self.settings = Settings { paths: self.settings.paths.clone(), ..*settings };
                self.report.solved(Problem::Configuration);
                self.report.say(Level::Info, "configuration read again");
                let before = self.place.role();
                self.deliveries.rename_node(self.place.node(), &node);
                if !self.holds_jobs() {
                    self.report.solved(Problem::Guard);
                }
                if self.place.rename(node) {
                    self.place_changed(now, before);
                }
                self.hold_anew();
                self.assign_outboxes();
                self.effects.extend([Effect::AskMaster, Effect::LookForPreHooks]);
            }
            Err(error) => {
                let text = format!("the configuration stays as it was: {error}");
                self.report.say_of(Topic::of(MessageId::Problem), Level::Error, &text);
                self.report.problem(Problem::Configuration, &error);
            }
        }
    }
}
