# What it takes to build messages into a virtual environment whose ROS 2 comes from wheels, quickly.
# With ROS from apt only `drop_missing_includes()` runs, and changes nothing.

# Imported targets of packages that were built elsewhere and not relocated may name include folders
# of the machine that built them. CMake stops at a folder that does not exist, so drop those.
# Call it deferred, that it sees what rosidl finds by itself:
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

# rosidl_generate_interfaces() for Python clients alone: nothing for C++ ones, and the type support
# compiled a few messages at a time. A third of the usual work.
macro(rosidl_generate_python_interfaces target)
  list(FILTER AMENT_EXTENSIONS_rosidl_generate_idl_interfaces EXCLUDE REGEX "_cpp")
  rosidl_generate_interfaces(${target} ${ARGN})
  set_target_properties(${target}__rosidl_typesupport_fastrtps_c PROPERTIES
    UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 8)
endmacro()
