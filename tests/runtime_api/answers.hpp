// What HAProxy answers, byte for byte as recorded (facts 1 and 3; 2.6.12 here).
#pragma once

#include <string>
#include <string_view>

namespace pointsman::test {

// The same in 2.4.0, 2.6.12, 2.8.0, 3.0.0, 3.2.0 and 3.4.0 (facts 3).
inline constexpr std::string_view state_header =
    "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight "
    "srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state "
    "bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr "
    "srv_agent_addr "
    "srv_agent_port";

inline std::string servers_state(std::string_view rows) {
    return "1\n" + std::string(state_header) + '\n' + std::string(rows) + '\n';
}

inline constexpr std::string_view info_2_6 = "Name: HAProxy\nVersion: 2.6.12-1+deb12u4\nRelease_date: 2026/10/17\n"
                                             "Nbthread: 2\nNbproc: 1\nProcess_num: 1\nPid: 4883\nUptime: 0d 0h00m00s\n"
                                             "Uptime_sec: 0\nnode: vm\nStopping: 0\nJobs: 4\nUnstoppable Jobs: 0\n"
                                             "Build info: 2.6.12-1+deb12u4\nStart_time_sec: 1795387216\nTainted: 0\n\n";

} // namespace pointsman::test
