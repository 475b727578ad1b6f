# Imported targets of ROS packages that were built elsewhere and not relocated, such as wheels, may
# name include folders of the machine that built them. CMake stops at a folder that does not exist.
# `drop_missing_includes()` removes those; where all folders exist, as with ROS from apt, it changes
# nothing. Call it deferred, so that it sees what rosidl finds by itself:
#
#   cmake_language(DEFER CALL drop_missing_includes)

function(drop_missing_includes)
  get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(folders ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(NOT folders)
      continue()
    endif()
    set(kept)
    foreach(folder IN LISTS folders)
      if(folder MATCHES "^\\$<" OR EXISTS "${folder}")
        list(APPEND kept "${folder}")
      endif()
    endforeach()
    set_property(TARGET ${target} PROPERTY INTERFACE_INCLUDE_DIRECTORIES "${kept}")
  endforeach()
endfunction()
