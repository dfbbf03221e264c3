//! What the configuration may say.

use ganeti_hookd::engine::settings::Settings;

#[test]
fn a_size_is_a_number_of_bytes_or_has_a_unit() {
    for value in ["65536", "\"65536\"", "\"64KiB\""] {
        let settings = Settings::parse(&format!("[hooks]\noutput-limit = {value}\n")).unwrap();
        assert_eq!(settings.hooks.output_limit, 65_536);
    }
}
