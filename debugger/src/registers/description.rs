//! The target description: which registers there are, in XML (GDB manual, "Target Description Format").

use std::fmt::Write;

use super::Layout;

const TYPES_OF_CORE: &str = r#"<flags id="i386_eflags" size="4"><field name="" start="22" end="31"/><field name="ID" start="21" end="21"/><field name="VIP" start="20" end="20"/><field name="VIF" start="19" end="19"/><field name="AC" start="18" end="18"/><field name="VM" start="17" end="17"/><field name="RF" start="16" end="16"/><field name="NT" start="14" end="14"/><field name="OF" start="11" end="11"/><field name="DF" start="10" end="10"/><field name="IF" start="9" end="9"/><field name="TF" start="8" end="8"/><field name="SF" start="7" end="7"/><field name="ZF" start="6" end="6"/><field name="AF" start="4" end="4"/><field name="PF" start="2" end="2"/><field name="" start="1" end="1"/><field name="CF" start="0" end="0"/></flags>
"#;
const VEC128: &str = r#"<vector id="v4f" type="ieee_single" count="4"/>
<vector id="v2d" type="ieee_double" count="2"/>
<vector id="v16i8" type="int8" count="16"/>
<vector id="v8i16" type="int16" count="8"/>
<vector id="v4i32" type="int32" count="4"/>
<vector id="v2i64" type="int64" count="2"/>
<union id="vec128"><field name="v4_float" type="v4f"/><field name="v2_double" type="v2d"/><field name="v16_int8" type="v16i8"/><field name="v8_int16" type="v8i16"/><field name="v4_int32" type="v4i32"/><field name="v2_int64" type="v2i64"/><field name="uint128" type="uint128"/></union>
"#;
const MXCSR: &str = r#"<flags id="i386_mxcsr" size="4"><field name="IE" start="0" end="0"/><field name="DE" start="1" end="1"/><field name="ZE" start="2" end="2"/><field name="OE" start="3" end="3"/><field name="UE" start="4" end="4"/><field name="PE" start="5" end="5"/><field name="DAZ" start="6" end="6"/><field name="IM" start="7" end="7"/><field name="DM" start="8" end="8"/><field name="ZM" start="9" end="9"/><field name="OM" start="10" end="10"/><field name="UM" start="11" end="11"/><field name="PM" start="12" end="12"/><field name="FZ" start="15" end="15"/></flags>
"#;
const PAIR: &str = "<vector id=\"v2ui128\" type=\"uint128\" count=\"2\"/>\n";

/// Types that a feature's registers have.
fn types(feature: &str) -> String {
    match feature {
        "core" => TYPES_OF_CORE.into(),
        "sse" => [VEC128, MXCSR].concat(),
        "avx512" => [VEC128, PAIR].concat(),
        _ => String::new(),
    }
}

impl Layout {
    /// The target description.
    pub fn description(&self) -> String {
        let mut xml = String::from(
            "<?xml version=\"1.0\"?>\n<!DOCTYPE target SYSTEM \"gdb-target.dtd\">\n<target version=\"1.0\">\n\
             <architecture>i386:x86-64</architecture>\n<osabi>GNU/Linux</osabi>\n",
        );
        let mut open = "";
        for (number, register) in self.registers.iter().enumerate() {
            if register.feature != open {
                if !open.is_empty() {
                    xml.push_str("</feature>\n");
                }
                open = register.feature;
                // Writing to a String cannot fail.
                let _ = writeln!(xml, "<feature name=\"org.gnu.gdb.i386.{open}\">");
                xml.push_str(&types(open));
            }
            let (name, bits, kind) = (&register.name, 8 * register.len, register.kind);
            let group = register
                .group
                .map(|group| format!(" group=\"{group}\""))
                .unwrap_or_default();
            let _ = writeln!(
                xml,
                "<reg name=\"{name}\" bitsize=\"{bits}\" type=\"{kind}\" regnum=\"{number}\"{group}/>"
            );
        }
        xml.push_str("</feature>\n</target>\n");
        xml
    }
}
